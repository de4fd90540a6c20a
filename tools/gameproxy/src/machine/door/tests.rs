#![expect(clippy::disallowed_methods, reason = "a test begins at some moment")]

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::said::file::File;

fn door(text: &str) -> Door {
    Door::new(read(text))
}

fn read(text: &str) -> Rules {
    File::parse(Path::new("rules"), text).unwrap_or_else(|fault| panic!("{fault}")).rules
}

fn player(client: &str, orig: &str) -> Player {
    Player { orig: orig.parse().unwrap(), client: client.parse().unwrap() }
}

fn enter(door: &mut Door, client: &str, orig: &str) -> Result<Choice, Dropped> {
    door.enter(Instant::now(), ClientId(1), player(client, orig), b"hello")
}

#[test]
fn a_name_that_is_not_known_keeps_its_own_redirect_waiting_and_no_other() {
    let mut door = door(
        "global allow 10.0.0.0/8 redirect 10.9.9.9 port 1 to q2.example 27910 redirect 10.9.9.9 port 2 to 10.0.0.2 27910
         redirect gate port 3 to 10.0.0.3 27910",
    );
    assert_eq!(enter(&mut door, "10.0.0.1:5", "10.9.9.9:1"), Err(Dropped::NoServer));
    assert_eq!(enter(&mut door, "10.0.0.1:5", "10.9.9.9:2").unwrap().server, "10.0.0.2:27910".parse().unwrap());
    assert_eq!(enter(&mut door, "10.0.0.1:5", "10.9.9.9:3"), Err(Dropped::NoRedirect));
    assert_eq!(enter(&mut door, "192.0.2.1:5", "10.9.9.9:2"), Err(Dropped::Denied));
    assert!(door.learn("q2.example", &["192.0.2.9".parse().unwrap()]));
    assert!(door.learn("gate", &["10.9.9.9".parse().unwrap()]));
    let choice = enter(&mut door, "10.0.0.1:5", "10.9.9.9:1").unwrap();
    assert_eq!((choice.server, choice.redirect), ("192.0.2.9:27910".parse().unwrap(), 0));
    assert!(enter(&mut door, "10.0.0.1:5", "10.9.9.9:3").is_ok());
    assert_eq!(door.players(), 3);
    // Another address now: who is there stays with the old, who comes has the new.
    assert!(door.learn("q2.example", &["192.0.2.10".parse().unwrap()]));
    let who = player("10.0.0.1:5", "10.9.9.9:1");
    assert_eq!(door.revise(ClientId(1), who, &choice), Some(choice.clone()));
    assert_eq!(enter(&mut door, "10.0.0.1:6", "10.9.9.9:1").unwrap().server, "192.0.2.10:27910".parse().unwrap());
    door.leave(ClientId(1), who, &choice);
    assert_eq!(door.revise(ClientId(1), who, &choice), None, "nobody else had the old one");
}

#[test]
fn limits_hold_in_all_and_by_redirect_and_count_down() {
    let text = "access = ['allow *']\n[limits]\nplayers = 4\nper-address = 3\n[[redirect]]\nfrom = '1'\nto = '10.0.0.2:1'\n\
                limits = { players = 2, rate = 7 }\n[[redirect]]\nfrom = '2'\nto = '10.0.0.2:1'\nlimits = { per-client = 3 }";
    let mut door = door(text);
    let now = Instant::now();
    let mut come = |through: u64, client: &str, orig: &str| {
        let who = player(client, orig);
        door.enter(now, ClientId(through), who, b"").map(|choice| (ClientId(through), who, choice))
    };
    let full = Some(Dropped::TooManyPlayers);
    let first = come(1, "10.0.0.1:1", "10.9.9.9:1").unwrap();
    assert_eq!(
        (first.2.rate, come(1, "10.0.0.1:2", "10.9.9.9:1").unwrap().2.rate),
        (NonZeroU32::new(7), NonZeroU32::new(7))
    );
    assert_eq!(come(1, "10.0.0.3:2", "10.9.9.9:1").err(), full, "the redirect's");
    assert!(come(1, "10.0.0.1:3", "10.9.9.9:2").is_ok());
    assert_eq!(come(1, "[::ffff:10.0.0.1]:4", "10.9.9.9:2").err(), full, "the address'");
    assert!(come(1, "10.0.0.4:3", "10.9.9.9:2").is_ok());
    assert_eq!(come(2, "10.0.0.5:3", "10.9.9.9:2").err(), full, "all");
    door.leave(first.0, first.1, &first.2);
    let mut come = |through: u64, client: &str| door.enter(now, ClientId(through), player(client, "10.9.9.9:2"), b"");
    assert!(come(1, "10.0.0.5:3").is_ok());
    assert_eq!((come(1, "10.0.0.6:3").err(), door.players()), (full, 4), "all again");
}

#[test]
fn a_token_picks_the_server() {
    let text = "access = ['allow *']\n[[redirect]]\nfrom = '1'\ntoken = 'back 2'\nto = [{ address = '10.0.0.1:1', tokens = \
                ['aa', 'bb'] }, { address = '10.0.0.2:1', tokens = ['cc'] }, '10.0.0.3:1']";
    let mut door = door(text);
    let mut come = |first: &[u8]| {
        let choice = door.enter(Instant::now(), ClientId(1), player("10.0.0.9:1", "10.9.9.9:1"), first);
        choice.map(|choice| (choice.target, choice.strip))
    };
    let strip = Some(TokenAt::Back(2));
    let rows = [
        (&b"xxaa"[..], Ok((0, strip))),
        (b"bb", Ok((0, strip))),
        (b"aacc", Ok((1, strip))),
        (b"aaxx", Err(Dropped::NoToken)),
        (b"a", Err(Dropped::NoToken)),
        (b"", Err(Dropped::NoToken)),
    ];
    for (first, want) in rows {
        assert_eq!(come(first), want, "{first:?}");
    }
}

#[test]
fn servers_that_do_not_answer_are_passed_over() {
    let text = "access = ['allow *']\n[[redirect]]\nfrom = '1'\nto = ['10.0.0.1:1', 'q2.example:1']\n\
                health = { query = 'quake2', every = '2s', fails = 2 }";
    let mut door = door(text);
    let now = Instant::now();
    let servers = |door: &mut Door| -> Vec<usize> {
        (0..4)
            .map(|n| door.enter(now, ClientId(1), player(&format!("10.0.0.9:{n}"), "10.9.9.9:1"), b"").unwrap().target)
            .collect()
    };
    assert_eq!(servers(&mut door), [0, 0, 0, 0], "the other's name is not known");
    door.learn("q2.example", &["10.0.0.2".parse().unwrap()]);
    assert_eq!(servers(&mut door), [1, 0, 1, 0]);
    let checks = [door.poll_check(now).unwrap(), door.poll_check(now).unwrap()];
    assert_eq!((checks[0].server, checks[1].target), (Some("10.0.0.1:1".parse().unwrap()), 1));
    assert_eq!(door.poll_check(now), None);
    assert_eq!(door.checked(now, &checks[1], Some(Duration::from_millis(3))), None);
    assert_eq!(door.checked(now, &checks[0], None), None);
    let later = door.poll_timeout().unwrap();
    assert_eq!(later - now, Duration::from_secs(2));
    let again: Vec<Check> = std::iter::from_fn(|| door.poll_check(later)).collect();
    assert_eq!(door.checked(later, &again[0], None), Some(Change::WentDown));
    assert_eq!(servers(&mut door), [1, 1, 1, 1]);
    let shown: Vec<_> =
        door.lines().flat_map(|(_, line)| line.servers().map(|s| (s.1, s.3)).collect::<Vec<_>>()).collect();
    assert_eq!(shown, [(false, None), (true, Some(Duration::from_millis(3)))]);
    assert_eq!(door.checked(later, &again[0], Some(Duration::from_millis(3))), Some(Change::CameUp));
}

#[test]
fn other_rules_keep_who_may_stay() {
    let before = "global allow * redirect * port 1 to 10.0.0.1 1 redirect * port 2 to 10.0.0.2 1 redirect * port 3 to 10.0.0.3 1";
    let mut door = door(before);
    let come = |door: &mut Door, client: &str, port: u16| {
        let who = player(client, &format!("10.9.9.9:{port}"));
        (who, door.enter(Instant::now(), ClientId(1), who, b"").unwrap())
    };
    let stays = come(&mut door, "10.0.0.7:1", 1);
    let denied = come(&mut door, "10.0.0.66:1", 1);
    let moved = come(&mut door, "10.0.0.7:2", 2);
    let gone = come(&mut door, "10.0.0.7:3", 3);
    door.reload(read(
        "global deny 10.0.0.66 global allow * redirect * port 2 to 10.0.0.9 1 redirect * port 1 to 10.0.0.1 1 delay 5ms",
    ));
    let revised = |(who, choice): &(Player, Choice)| door.revise(ClientId(1), *who, choice);
    let after = revised(&stays).unwrap();
    assert_eq!((after.line, after.redirect, after.carriage.up.delay), (stays.1.line, 1, Duration::from_millis(5)));
    assert_eq!([revised(&denied), revised(&moved), revised(&gone)], [None, None, None]);
    assert_eq!(
        door.lines().map(|(redirect, line)| (redirect.is_some(), line.count.players())).collect::<Vec<_>>(),
        [(true, 1), (true, 2), (false, 1)]
    );
    for (who, choice) in [stays, denied, moved, gone] {
        door.leave(ClientId(1), who, &choice);
    }
    assert_eq!((door.players(), door.lines().count()), (0, 2));
    assert!(door.lines().all(|(_, line)| line.count.players() == 0 && line.servers().all(|server| server.2 == 0)));
}

#[test]
fn fair_is_by_the_client_sides_that_play() {
    let mut door = door("access = ['allow *']\n[[redirect]]\nfrom = '1'\nto = '10.0.0.1:1'\nfair-ping = '50ms'");
    let now = Instant::now();
    let ms = Duration::from_millis;
    for (client, leg) in [(1, 10), (2, 40), (3, 500)] {
        door.leg(ClientId(client), ms(leg));
    }
    let near = door.enter(now, ClientId(1), player("10.0.0.7:1", "10.9.9.9:1"), b"").unwrap();
    assert_eq!(door.more(ClientId(1), &near), [ms(0); 2], "alone");
    let far = door.enter(now, ClientId(2), player("10.0.0.7:2", "10.9.9.9:1"), b"").unwrap();
    assert_eq!([door.more(ClientId(1), &near), door.more(ClientId(2), &far)], [[ms(15); 2], [ms(0); 2]]);
    let who = player("10.0.0.7:3", "10.9.9.9:1");
    let farthest = door.enter(now, ClientId(3), who, b"").unwrap();
    assert_eq!(door.more(ClientId(1), &near), [ms(25); 2], "within the bound");
    door.leave(ClientId(3), who, &farthest);
    assert_eq!(door.more(ClientId(1), &near), [ms(15); 2]);
}

proptest! {
    /// Whoever comes and goes in whatever order: nobody is counted who is not there, and no limit is passed.
    #[test]
    fn who_came_and_went_is_not_counted(steps in prop::collection::vec((any::<bool>(), 0..3_u64, 0..3_u8, 0..8_u16, 1..3_u16), 1..200)) {
        let text = "access = ['allow *']\n[limits]\nplayers = 9\nper-client = 5\n[[redirect]]\nfrom = '1'\nto = ['10.0.0.1:1', \
                    '10.0.0.2:1']\nbalance = 'least-players'\nlimits = { per-address = 2 }\n[[redirect]]\nfrom = '2'\nto = '10.0.0.2:1'";
        let mut door = door(text);
        let mut there: HashMap<(u64, Player), Choice> = HashMap::new();
        for (comes, through, ip, port, to) in steps {
            let who = player(&format!("10.0.1.{ip}:{port}"), &format!("10.9.9.9:{to}"));
            match (comes, there.contains_key(&(through, who))) {
                (true, false) => {
                    let by = |of: &dyn Fn(&(u64, Player)) -> bool| there.keys().filter(|key| of(key)).count();
                    let room = there.len() < 9
                        && by(&|key| key.0 == through) < 5
                        && (to == 2 || by(&|key| key.1.orig.port() == 1 && key.1.client.ip() == who.client.ip()) < 2);
                    match door.enter(Instant::now(), ClientId(through), who, b"") {
                        Ok(choice) => {
                            prop_assert!(room);
                            there.insert((through, who), choice);
                        }
                        Err(why) => prop_assert_eq!((why, room), (Dropped::TooManyPlayers, false)),
                    }
                }
                (false, true) => {
                    let choice = there.remove(&(through, who)).unwrap();
                    door.leave(ClientId(through), who, &choice);
                }
                _ => {}
            }
            prop_assert_eq!(door.players() as usize, there.len());
            let counted: Vec<u64> = door.lines().flat_map(|(_, line)| line.servers().map(|server| server.2).collect::<Vec<_>>()).collect();
            prop_assert_eq!(counted.iter().sum::<u64>() as usize, there.len());
        }
    }
}

#[test]
fn another_server_is_one_that_lives_and_has_the_token() {
    let text = "access = ['allow *']\n[[redirect]]\nfrom = '1'\nto = ['10.0.0.1:1', '10.0.0.2:1']\n[[redirect]]\nfrom = '2'\n\
                token = 'front 1'\nto = [{ address = '10.0.0.1:1', tokens = ['h'] }, { address = '10.0.0.2:1', tokens = ['x'] }]\n\
                [[redirect]]\nfrom = '3'\nto = ['10.0.0.1:1', 'unknown.example:1']";
    let (mut door, now) = (door(text), Instant::now());
    let choice = enter(&mut door, "10.0.0.9:1", "10.9.9.9:1").unwrap();
    let other = enter(&mut door, "10.0.0.9:2", "10.9.9.9:1").unwrap();
    assert!(choice.server != other.server && door.has_other(&choice) && door.has_other(&other));
    // Nobody is there: who asks next has nowhere else to go.
    let changes = [(); 3].map(|()| door.answered(now, &other, false));
    assert_eq!(changes, [None, None, Some(Change::WentDown)]);
    assert!(!door.has_other(&choice) && door.has_other(&other));
    let with_token = enter(&mut door, "10.0.0.9:1", "10.9.9.9:2").unwrap();
    assert!(!door.has_other(&with_token), "the other has another token");
    let alone = enter(&mut door, "10.0.0.9:1", "10.9.9.9:3").unwrap();
    assert!(!door.has_other(&alone), "the other's name is not known");
}
