//! What was finished arrives before the end is told.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use noq::Stopped;

/// Streams that were finished, until the peer has all of them. At most as many as the peer lets be open.
#[derive(Default)]
pub(super) struct Unconfirmed(Mutex<Vec<Pin<Box<Stopped>>>>);

impl Unconfirmed {
    /// One more.
    pub(super) fn add(&self, stream: Pin<Box<Stopped>>) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked through only when it would grow, so each is looked at a bounded number of times.
        if streams.len() == streams.capacity() {
            let mut nobody = Context::from_waker(Waker::noop());
            streams.retain_mut(|stream| stream.as_mut().poll(&mut nobody).is_pending());
        }
        streams.push(stream);
    }

    /// Waits until all have arrived, or the connection is gone.
    pub(super) async fn arrived(&self) {
        loop {
            let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(stream) = next else { return };
            let _ = stream.await;
        }
    }
}

/// What a future has to say now.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}
