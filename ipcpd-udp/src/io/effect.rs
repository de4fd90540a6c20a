//! Does what the machine decided.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use handoff::server::{Offer, Owner as Taker};
use proto::{FlowId, v1};

use super::driver::Driver;
use super::irm::News;
use super::{filter, socket, sockopt as own};
use crate::machine::{Filter, Key, OpenError, Output, Owner};

impl Driver {
    /// Does everything that is to be done now. Answers of the kernel go straight back into the machine and may make
    /// it want more.
    pub(super) fn carry_out(&mut self, now: Instant) {
        while let Some(output) = self.shim.poll_output() {
            self.act(now, output);
        }
        self.parting.clear();
    }

    fn act(&mut self, now: Instant, output: Output) {
        match output {
            Output::Open { key, port, watch } => {
                let result = self.open_socket(key, port, watch);
                self.shim.opened(now, key, result);
            }
            Output::Router(step) => self.router.ask(step),
            Output::SendListen { to, bytes } => {
                let _ = socket::send(self.listen.get_ref().as_fd(), Some(to), &bytes);
            }
            Output::SendFlow { key, to, bytes } => self.send_flow(now, key, to, &bytes),
            output @ (Output::Reserve { .. }
            | Output::Join { .. }
            | Output::CheckDropped { .. }
            | Output::Detach { .. }) => self.act_on_listen_port(now, output),
            Output::Connect { key, peer, filter } => self.connect_flow(now, key, peer, &filter),
            Output::Catch { key } => self.open_catcher(key),
            Output::Uncatch { key } => drop(self.catchers.remove(&key)),
            Output::Move { key, peer } => self.move_flow(key, peer),
            Output::Look { key, flow } => {
                let counters = self.tools.hand.counters(flow).unwrap_or_default();
                self.shim.looked(now, key, counters.sdus_received, counters.sdus_sent);
            }
            Output::Refilter { key, filter } => {
                if let Some(socket) = self.sockets.get(&key) {
                    let _ = filter::attach(socket.as_fd(), &filter);
                }
            }
            Output::CheckSent { key } => {
                let all = self.sockets.get(&key).is_none_or(|socket| socket::all_sent(socket.as_fd()));
                self.shim.sent_all(now, key, all);
            }
            Output::CheckRead { key } => {
                let all = self.sockets.get(&key).is_none_or(|socket| socket::all_read(socket.as_fd()));
                self.shim.read_all(now, key, all);
            }
            Output::Count { key, flow } => {
                let sent = self.tools.hand.counters(flow).map_or(0, |counters| counters.sdus_sent);
                self.shim.counted(key, sent);
            }
            Output::Revoke { key } => {
                if let Some(socket) = self.sockets.get(&key) {
                    socket::revoke(socket.as_fd());
                }
            }
            Output::Retire { key } => {
                if let Some(socket) = self.sockets.get(&key) {
                    socket::retire(socket.as_fd());
                }
            }
            Output::Close { key } => {
                if let Some(socket) = self.sockets.remove(&key) {
                    self.overflown += u64::from(own::overflown(socket.as_fd()).unwrap_or(0));
                    self.asking.remove(&socket);
                }
            }
            Output::Swap { key, with } => self.swap_socket(key, with),
            Output::Stopped => self.stopped = true,
            told => self.tell(told),
        }
    }

    /// What goes to irmd and to programs.
    fn tell(&mut self, output: Output) {
        match output {
            Output::Arrived { key, arrival } => {
                tracing::debug!(name = %arrival.name, source = arrival.source, peer = %arrival.peer, "flow asked for");
                self.tools.hand.expect(arrival.token);
                let call = self.tools.irm.clone().flow_req_arr(self.shim.settings().layer.clone(), arrival);
                let task = self.arrivals.spawn(async move { (key, call.await) });
                self.arriving.insert(key, task);
            }
            Output::Abandon { key } => {
                if let Some(task) = self.arriving.remove(&key) {
                    task.abort();
                }
            }
            Output::Offer { key, flow, token, owner, sdu_limit, ticket, unwanted, binding, fixed, movable } => {
                if let Some(socket) = self.sockets.get(&key) {
                    let Owner { uid, pid, .. } = owner;
                    tracing::info!(flow = flow.0, pid, sdu_limit, "flow allocated");
                    let owner = Taker { uid, pid };
                    let socket = socket.clone();
                    let offer =
                        Offer { token, flow, owner, socket, sdu_limit, ticket, unwanted, binding, fixed, movable };
                    self.tools.hand.offer(offer);
                }
            }
            Output::Moved { flow, peer, way, ticket } => {
                tracing::info!(flow = flow.0, %peer, way, "flow has another path");
                self.tools.hand.moved(flow, peer, ticket);
            }
            Output::Expect { token } => self.tools.hand.expect(token),
            Output::Withdraw { token, failure } => self.tools.hand.withdraw(token, failure),
            Output::Allocated { key, token, peer, data, classic, host_key, asked } => {
                if let Some((_, reply)) = self.allocs.remove(&key) {
                    let peer_address = peer.to_string();
                    let token = token.0.to_vec();
                    let host_key = host_key.map(|key| key.to_string()).unwrap_or_default();
                    let _ = reply.send(Ok(v1::AllocReply { token, peer_address, data, classic, host_key, asked }));
                }
            }
            Output::Failed { key, failure } => {
                let asked = self.allocs.remove(&key);
                let flow = asked.as_ref().map(|(flow, _)| flow.0);
                tracing::info!(flow, "flow not allocated: {failure}");
                if let Some((_, reply)) = asked {
                    let _ = reply.send(Err(failure));
                }
            }
            Output::Gone { flow, reason } => self.tools.hand.gone(flow, reason),
            Output::Forget { flow } => {
                // Its slot goes with it; its end may be told right after.
                if let Some(counters) = self.tools.hand.counters(flow) {
                    self.parting.entry(flow).or_insert(counters);
                }
                self.tools.hand.forget(flow);
            }
            Output::Ended { flow, reason } => self.ended(flow, reason),
            found => self.find(found),
        }
    }

    fn ended(&mut self, flow: FlowId, reason: v1::EndReason) {
        tracing::info!(flow = flow.0, reason = reason.as_str_name(), "flow over");
        let counters = self.parting.remove(&flow).or_else(|| self.tools.hand.counters(flow));
        if self.tools.news.try_send(News::Ended(flow, reason, counters)).is_err() {
            tracing::warn!(flow = flow.0, "irmd is not told of a flow's end: too many wait for its return");
        }
    }

    fn open_socket(&mut self, key: Key, port: u16, watch: bool) -> Result<SocketAddr, OpenError> {
        let own = self.shim.settings().listen.ip();
        // Where the layer follows its host, flows that can are not tied to the address of this moment.
        let ip = if self.network.is_some() && self.shim.may_go_along(key) { socket::any(own) } else { own };
        let at = SocketAddr::new(ip, port);
        let (socket, local) = socket::open(at, watch)?;
        if watch {
            self.asking.add(key, &socket).map_err(|error| OpenError::Other(error.to_string()))?;
        }
        self.sockets.insert(key, Arc::new(socket));
        Ok(local)
    }

    /// What is still to be read of the one comes with it; of the other it is lost.
    fn swap_socket(&mut self, key: Key, with: Key) {
        let Some(socket) = self.sockets.remove(&with) else { return };
        self.asking.remove(&socket);
        if let Err(error) = self.asking.add(key, &socket) {
            tracing::warn!(%error, "a flow's socket cannot be watched");
        }
        if let Some(before) = self.sockets.insert(key, socket) {
            self.asking.remove(&before);
        }
    }

    fn connect_flow(&mut self, now: Instant, key: Key, peer: SocketAddr, filter: &Filter) {
        let result = self.connect_socket(key, peer, filter);
        self.shim.connected(now, key, result);
    }

    fn connect_socket(&mut self, key: Key, peer: SocketAddr, filter: &Filter) -> Result<u32, String> {
        let socket = self.sockets.get(&key).ok_or("its socket is closed")?;
        self.asking.remove(socket);
        let (limit, strangers) =
            socket::connect(socket.as_fd(), peer, filter, &mut self.buffer).map_err(|errno| errno.to_string())?;
        self.shim.drained(strangers);
        if let Some(local) = socket::local(socket.as_fd()) {
            self.shim.is_at(key, local);
        }
        Ok(limit)
    }

    fn send_flow(&mut self, now: Instant, key: Key, to: Option<SocketAddr>, bytes: &[u8]) {
        let Some(socket) = self.sockets.get(&key) else { return };
        if let Err(what) = socket::send(socket.as_fd(), to, bytes) {
            self.shim.handle_unreachable(now, key, what);
        }
    }
}
