//! The side that asks for a test and prints its result.

use serde::Serialize;

use super::carrier::{Carrier, Gone};
use super::{NOTHING, OK, load, print, trip};
use crate::machine::account::Account;
use crate::machine::params::{Mode, Params};
use crate::machine::result::{Route, Rtt, Throughput, opening};

/// Runs the test over a carrier whose other side knows the parameters. The exit code.
pub(crate) fn measure(carrier: &mut impl Carrier, route: &Route, params: &Params, json: bool) -> u8 {
    if !json {
        print::line(&opening(route, params));
    }
    match (params.mode, params.reverse) {
        (Mode::Rtt, _) => round_trips(carrier, route, params, json),
        (_, false) => forward(carrier, route, params, json),
        (_, true) => reverse(carrier, route, params, json),
    }
}

fn forward(carrier: &mut impl Carrier, route: &Route, params: &Params, json: bool) -> u8 {
    let (sender, sent) = load::send(carrier, params);
    let (receiver, ended) = told(sent.and_then(|()| load::conclude(carrier, &sender)));
    let result =
        Throughput::new(route, params, Some(&sender), receiver.as_ref(), ended.as_deref()).over(carrier.path());
    show(&result, Throughput::text, json);
    verdict(receiver.is_some_and(|r| r.sdus > 0), ended)
}

fn reverse(carrier: &mut impl Carrier, route: &Route, params: &Params, json: bool) -> u8 {
    let load::Received { own, sender, gone } = load::receive(carrier, params);
    let ended = match (gone, sender) {
        (Some(Gone(why)), _) => Some(why),
        (None, None) => Some("the server's account never came".to_owned()),
        (None, Some(_)) => None,
    };
    let result = Throughput::new(route, params, sender.as_ref(), Some(&own), ended.as_deref()).over(carrier.path());
    show(&result, Throughput::text, json);
    verdict(own.sdus > 0, ended)
}

fn round_trips(carrier: &mut impl Carrier, route: &Route, params: &Params, json: bool) -> u8 {
    let (client, latency, pinged) = trip::ping(carrier, params);
    let (server, ended) = told(pinged.and_then(|()| load::conclude(carrier, &client)));
    let result = Rtt::new(route, params, &client, server.as_ref(), latency.micros(), ended.as_deref());
    show(&result, Rtt::text, json);
    verdict(client.sdus > 0, ended)
}

/// The other side's account, and why there is none.
fn told(result: Result<Option<Account>, Gone>) -> (Option<Account>, Option<String>) {
    match result {
        Ok(Some(account)) => (Some(account), None),
        Ok(None) => (None, Some("the other side's account never came".to_owned())),
        Err(Gone(why)) => (None, Some(why)),
    }
}

fn show<T: Serialize>(result: &T, text: impl FnOnce(&T) -> String, json: bool) {
    // A reader that went away changes nothing about the measurement.
    let _ = if json { print::json(result) } else { print::text(&text(result)) };
}

fn verdict(something_came: bool, ended: Option<String>) -> u8 {
    if let Some(why) = &ended {
        print::error(&format!("the test ended before its time: {}", crate::machine::result::printable(why)));
    }
    if something_came && ended.is_none() { OK } else { NOTHING }
}
