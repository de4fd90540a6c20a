//! Opens the tracks of a client's group: flows, or TCP connections with the seed's establishment.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libflow::{Congestion, Qos, Stack};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::carrier::Carrier;
use super::sockets;
use crate::said::classic;
use crate::said::end::Via;
use crate::said::join::{GroupId, Join};
use crate::said::rule::{How, Proxy};

/// Pauses between tries to replace a track, from the second on.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Opens flows for one group.
#[derive(Clone)]
pub(super) struct Dialer(Arc<Flows>);

struct Flows {
    stack: Stack,
    ends: Vec<(String, Option<String>)>,
    group: GroupId,
    tracks: u16,
    congestion: Congestion,
    how: How,
}

/// What came of it.
pub(super) struct Dialed {
    pub(super) index: u16,
    pub(super) attempt: u32,
    pub(super) result: Result<Carrier, String>,
}

impl Dialer {
    /// `tracks`: at most so many.
    pub(super) fn new(stack: Stack, to: &[Via], tracks: u16, group: GroupId, how: &How) -> Self {
        let ends = to.iter().filter_map(|via| match via {
            Via::Flow { name, layer } => Some((name.clone(), layer.clone())),
            Via::Tcp { .. } => None,
        });
        // The rule was checked: another name is none of ours.
        let congestion = how.congestion.as_deref().and_then(|name| name.parse().ok()).unwrap_or_default();
        Self(Arc::new(Flows { stack, ends: ends.collect(), group, tracks, congestion, how: how.clone() }))
    }

    /// One more track of a group that is there.
    pub(super) async fn dial_more(self, index: u16) -> Dialed {
        Dialed { index, attempt: 0, result: self.open(index, true).await }
    }

    /// Opens track `index`. Later attempts wait before they try.
    pub(super) async fn dial(self, index: u16, attempt: u32) -> Dialed {
        if attempt > 0 {
            let pause = PAUSES.0.saturating_mul(1 << attempt.saturating_sub(1).min(8)).min(PAUSES.1);
            tokio::time::sleep_until((Instant::now() + pause).into()).await;
        }
        Dialed { index, attempt, result: self.open(index, attempt > 0).await }
    }

    async fn open(&self, index: u16, again: bool) -> Result<Carrier, String> {
        let flows = &self.0;
        let Some((name, layer)) = flows.ends.get(usize::from(index) % flows.ends.len().max(1)) else {
            return Err("there is no name to allocate a flow to".to_owned());
        };
        let join = Join { group: flows.group, tracks: flows.tracks, track: index, window: flows.how.window, again };
        let mut alloc = flows
            .stack
            .alloc(name)
            .qos(Qos::stream())
            .source("tcpstripe")
            .data(join.encode())
            .congestion(flows.congestion)
            .timeout(flows.how.dial_timeout);
        if let Some(layer) = layer {
            alloc = alloc.layer(layer);
        }
        let flow = alloc.await.map_err(|error| error.to_string())?;
        let stream = flow.open_stream().await.map_err(|error| error.to_string())?;
        Ok(Carrier::Flow { stream, flow: Box::new(flow) })
    }
}

/// Opens all TCP connections of a group, as the seed has it: the first one gets the group's number, the others say it.
pub(super) async fn establish(proxy: &Proxy) -> Result<Vec<Carrier>, String> {
    let ends = &proxy.to;
    let (_, tracks) = proxy.tracks.bounds(ends.len());
    let (first, group) = join(ends[0].clone(), None, proxy.how.clone()).await?;
    let mut joining = JoinSet::new();
    for index in 1..tracks {
        let end = ends[usize::from(index) % ends.len()].clone();
        joining.spawn(join(end, Some(group), proxy.how.clone()));
    }
    let mut carriers = vec![Carrier::Tcp(first)];
    // One that fails takes the others with it: dropped, they are reset.
    while let Some(joined) = joining.join_next().await {
        let (stream, _) = joined.map_err(|error| error.to_string())??;
        carriers.push(Carrier::Tcp(stream));
    }
    Ok(carriers)
}

/// One connection, and the number that the relay answered.
async fn join(end: Via, group: Option<NonZeroU32>, how: How) -> Result<(tokio::net::TcpStream, NonZeroU32), String> {
    let words = |error: std::io::Error| format!("no track to {end}: {error}");
    let mut stream = sockets::dial_as(&end, how.congestion.as_deref(), how.dial_timeout).await.map_err(words)?;
    sockets::prepare_track(&stream).map_err(words)?;
    let asking = async {
        stream.write_all(&classic::number(group)).await?;
        let mut answer = [0; classic::NUMBER];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = match tokio::time::timeout(how.dial_timeout, asking).await {
        Ok(answer) => answer.map_err(|error| {
            format!("the relay at {end} ended a track before it was one ({error}); is its target there?")
        })?,
        Err(_) => return Err(format!("the relay at {end} gave no number within {} s", how.dial_timeout.as_secs_f64())),
    };
    match (classic::read_number(answer), group) {
        (None, _) => Err(format!("the relay at {end} gave 0 as a group's number")),
        (Some(number), Some(group)) if number != group => Err(format!(
            "the relay at {end} took a track for group {number} instead of {group}; do all --to lead to one relay?"
        )),
        (Some(number), _) => Ok((stream, number)),
    }
}
