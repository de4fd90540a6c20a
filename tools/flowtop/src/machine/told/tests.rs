use proto::v1;

use super::*;

#[test]
fn pages_add_up_and_short_columns_are_zeros() {
    let mut counts = Vec::new();
    let state = [v1::FlowState::Pending, v1::FlowState::Ended].map(i32::from).to_vec();
    let page = v1::FlowCountsReply { flow_id: vec![7, 8, 9], bytes_sent: vec![70], state, ..Default::default() };
    add_page(&page, &mut counts);
    add_page(&v1::FlowCountsReply { flow_id: vec![10], rtt_us: vec![5], ..Default::default() }, &mut counts);
    let ids: Vec<u64> = counts.iter().map(|counts| counts.id.0).collect();
    assert_eq!(ids, [7, 9, 10], "one that has ended is none");
    assert_eq!((counts[0].sent_bytes, counts[0].state), (70, State::Pending));
    assert_eq!((counts[1].sent_bytes, counts[1].state, counts[2].rtt_us), (0, State::Allocated, 5));
}

#[test]
fn the_host_in_words() {
    let ipcp = |layer: &str, flows| v1::IpcpInfo { layer: layer.into(), flows, ..Default::default() };
    let status = v1::StatusReply {
        flows: 10,
        ipcps: vec![ipcp("net", 3), ipcp("lan", 2), ipcp("net", 1), ipcp("", 0)],
        refusals: [("refused".to_owned(), 1), ("unknown_name".to_owned(), 4)].into(),
        ..Default::default()
    };
    let host = Host::new("alpha\u{1b}", status);
    assert_eq!(host.name, "alpha\\u{1b}");
    assert_eq!(host.layers, [("lan".to_owned(), 2), ("net".to_owned(), 4), ("local".to_owned(), 4)]);
    assert_eq!(host.refusals, [("unknown name".to_owned(), 4), ("refused".to_owned(), 1)]);
    assert_eq!(host.refused(), 5);
}

#[test]
fn a_flow_that_is_over_says_why() {
    let over = |ended: v1::EndReason, failure: v1::FailureKind, words: &str| {
        let info = v1::FlowInfo {
            state: v1::FlowState::Ended.into(),
            ended: ended.into(),
            failure: failure.into(),
            words: words.into(),
            ..Default::default()
        };
        detail(Instant::now(), info).ended.unwrap()
    };
    assert_eq!(over(v1::EndReason::PeerDied, v1::FailureKind::Unspecified, ""), "peer died");
    assert_eq!(over(v1::EndReason::Unspecified, v1::FailureKind::Refused, "full"), "refused: full");
    assert!(detail(Instant::now(), v1::FlowInfo::default()).ended.is_none());
}

#[test]
fn refusals_and_losses_are_told_and_nothing_else() {
    let made = |kind: v1::EventKind| v1::FlowEvent { kind: kind.into(), ..Default::default() };
    assert!(event(0, made(v1::EventKind::Allocated)).is_none() && event(0, made(v1::EventKind::Unspecified)).is_none());
    let missed = v1::FlowEvent { missed: 9, ..made(v1::EventKind::Missed) };
    assert!(matches!(event(0, missed), Some(Told::Missed(9))));
    let refused = v1::FlowEvent {
        number: 3,
        unix_us: 4_000_000,
        name: "echo\n".into(),
        process: Some(v1::Process { pid: 7, command: "oping".into(), ..Default::default() }),
        peer_address: "10.0.0.9:1".into(),
        failure: v1::FailureKind::NobodyAccepts.into(),
        ..made(v1::EventKind::Refused)
    };
    let take = |now_us, refused| match event(now_us, refused) {
        Some(Told::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let refusal = take(6_000_000, refused.clone());
    assert_eq!(
        (refusal.asker.as_str(), refusal.reason.as_str(), refusal.name.as_str()),
        ("oping (7)", "nobody accepts", "echo\\n")
    );
    assert_eq!(refusal.age, Duration::from_secs(2));
    // A clock that was set back makes no age.
    let arrived = take(1, v1::FlowEvent { accepting: true, ..refused });
    assert_eq!((arrived.asker.as_str(), arrived.age), ("10.0.0.9:1", Duration::ZERO));
}
