//! Callers of the gRPC socket, counted by user: whoever opens socket after socket runs out of its own, not of irmd's.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use handoff::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::users;
use crate::machine;

/// Sockets of one user's programs: each needs one.
const MOST: usize = 1_024;

/// How many sockets each user has open.
#[derive(Clone, Debug)]
pub(super) struct Callers {
    unlimited: Arc<[u32]>,
    by_user: Arc<Mutex<HashMap<u32, usize>>>,
    turned_away: Arc<AtomicU64>,
}

/// A caller's socket; dropping it gives its place back.
#[derive(Debug)]
pub(super) struct Caller {
    stream: Stream,
    who: machine::Caller,
    callers: Callers,
}

impl Callers {
    /// Nobody yet; the users of `unlimited` may have as many as there are.
    pub(super) fn new(unlimited: Vec<u32>) -> Self {
        Self { unlimited: unlimited.into(), by_user: Arc::default(), turned_away: Arc::default() }
    }

    /// Lets a caller in, unless its user has as many sockets open as a user may.
    pub(super) fn enter(&self, stream: Stream) -> Option<Caller> {
        let cred = stream.connect_info().peer_cred?;
        let (uid, gid) = (cred.uid(), cred.gid());
        let groups = users::groups_behind(&stream);
        let pid = u32::try_from(cred.pid().unwrap_or(0)).unwrap_or(0);
        if pid == 0 {
            // All such have this number: they could be taken for each other.
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(uid, "a caller is turned away: it is in a PID namespace that irmd cannot see into");
            return None;
        }
        let who = machine::Caller { pid, uid, gid, groups };
        {
            let mut by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
            let open = by_user.entry(uid).or_default();
            if *open >= MOST && !self.unlimited.contains(&uid) {
                self.turned_away.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(uid, pid = cred.pid(), "a caller is turned away: {open} sockets of its user are open");
                return None;
            }
            *open += 1;
        }
        Some(Caller { stream, who, callers: self.clone() })
    }

    /// How many were not let in.
    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut by_user = self.callers.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = by_user.get_mut(&self.who.uid) {
            *open -= 1;
            if *open == 0 {
                by_user.remove(&self.who.uid);
            }
        }
    }
}

impl Connected for Caller {
    type ConnectInfo = machine::Caller;

    fn connect_info(&self) -> machine::Caller {
        self.who.clone()
    }
}

impl AsyncRead for Caller {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Caller {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
