use super::*;
use crate::said::rule::{Access, Place, Verdict};

fn read(text: &str) -> File {
    File::parse(Path::new("rules"), text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

#[test]
fn the_two_ways_of_writing_are_told_apart_and_mean_the_same() {
    let words = read(
        "# both\nglobal allow 192.168.1.0/255.255.255.0 from 1024 -\n\
         on gw.example redirect 192.168.1.1 port 27910 to q2.example 27911 deny 192.168.1.9 allow * delay 30ms+20ms",
    );
    let toml = read(
        "# both\naccess = [\"allow 192.168.1.0/24 from 1024-\"]\n[[redirect]]\non = 'gw.example'\nfrom = '192.168.1.1:27910'\n\
         to = 'q2.example:27911'\naccess = ['deny 192.168.1.9', 'allow *']\ndelay = '30ms+20ms'\n",
    );
    assert_eq!(words, toml);
    assert_eq!(names(&words.rules), ["gw.example", "q2.example"]);
}

#[test]
fn a_file_without_redirects_or_with_too_many_is_refused() {
    let refused = |text: &str, want: &str| {
        let fault = File::parse(Path::new("rules"), text).unwrap_err().to_string();
        assert!(fault.contains(want), "{fault}");
    };
    refused("", "1:1: there is no redirect");
    refused("global allow *", "there is no redirect");
    refused("[options]", "there is no redirect");
    let line = "redirect * port 1 to a.example 2\n";
    refused(&line.repeat(MOST_REDIRECTS + 1), &format!("{}:1: this is redirect", MOST_REDIRECTS + 1));
    refused(&format!("{}{line}", "global allow *\n".repeat(MOST_ENTRIES + 1)), "entries and may have 4096");
}

#[test]
fn names_are_apart_and_doubts_are_told() {
    let file = read("redirect 10.0.0.1 port 5 to a.example 6\nredirect 10.0.0.1 port 5 to b.example 6");
    let names: Vec<&str> = file.rules.redirects.iter().map(|redirect| &*redirect.name).collect();
    assert_eq!(names, ["10.0.0.1:5", "10.0.0.1:5 (2)"]);
    let doubts = file.doubts();
    assert!(doubts[0].starts_with("nobody may play"), "{doubts:?}");
    assert!(doubts[1].starts_with("the redirect 10.0.0.1:5 (2) is reached by those only"), "{doubts:?}");
    let slow = read(
        "access = ['allow *']\n[[redirect]]\nfrom = '5'\nto = 'a.example:6'\ndelay = '1s+3s'\nqueue = 30\n\
         [[redirect]]\nfrom = '6'\nto = 'a.example:6'\ndelay = '1s+3s'\n[[redirect]]\nfrom = '7'\nto = 'a.example:6'\nqueue = 1",
    );
    let doubts = slow.doubts();
    assert!(doubts[0].starts_with("of each player the redirect 0.0.0.0:5 carries 10 datagrams a second"), "{doubts:?}");
    assert_eq!(doubts.len(), 1);
    let own = read(
        "access = ['allow *']\n[defaults]\nown-source = true\n[[redirect]]\nfrom = '5'\nto = ['127.0.0.2:6', 'localhost:7']\n\
         [[redirect]]\nfrom = '6'\nto = '10.0.0.1:6'",
    );
    let doubts = own.doubts();
    assert!(doubts[0].starts_with("own-source of the redirect 0.0.0.0:6 is for servers at 127.0.0.1"), "{doubts:?}");
    assert_eq!(doubts.len(), 1);
    let mut fine = read("global allow *\nredirect 10.0.0.1 port 5 to a.example 6");
    assert_eq!(fine.doubts(), Vec::<String>::new());
    let host = Host::Address("10.0.0.2".parse().unwrap());
    fine.rules.redirects[0].from = Place { host, port: 5 };
    assert_eq!(
        fine.rules.access,
        [Access {
            verdict: Verdict::Allow,
            ..read("global allow */0\nredirect * port 1 to a.b 2").rules.access[0].clone()
        }]
    );
}
