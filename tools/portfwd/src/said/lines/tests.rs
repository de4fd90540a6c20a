use proptest::prelude::*;

use super::*;

fn rules(text: &str) -> Vec<String> {
    parse(text).unwrap().iter().map(|written| written.rule.to_string()).collect()
}

#[test]
fn the_seeds_file_is_read() {
    assert_eq!(
        rules("7005 -> 192.168.0.1:8005\n7006 -> 192.168.0.2:8006\n"),
        ["7005 -> 192.168.0.1:8005", "7006 -> 192.168.0.2:8006"]
    );
}

#[test]
fn blanks_comments_and_line_ends_are_as_people_write_them() {
    let text = "\u{feff}# all of it\r\n\r\n  7005->10.0.0.1:80   # one\r\n\t[::1]:1-2 ->\t[fd00::1]:3-4 ,unix:/a#b\n#7006 -> 7\n   \n7 -> flow:a#b";
    let want = ["7005 -> 10.0.0.1:80", "[::1]:1-2 -> [fd00::1]:3-4, unix:/a#b", "7 -> flow:a#b"];
    assert_eq!(rules(text), want);
    assert_eq!(rules("\u{feff}7005 -> 80"), ["7005 -> 80"]);
    assert_eq!(rules(""), Vec::<String>::new());
    let at: Vec<usize> = parse(text).unwrap().iter().map(|written| written.at).collect();
    assert!(at.iter().zip(["7005", "[::1]", "7 ->"]).all(|(at, begin)| text[*at..].starts_with(begin)), "{at:?}");
}

#[test]
fn what_is_wrong_is_told_with_line_and_column() {
    let table = [
        ("7005 -> 80\n  7006 192.168.0.1:80\n", (2, 3), "there is no '->'"),
        ("7005 -> ", (1, 8), "there is no target here"),
        ("7005 -> 80, , 81", (1, 12), "there is no target here"),
        (" 70055 -> 80", (1, 2), "'70055' is no port"),
        ("7005 ->   10.0.0.256:80", (1, 11), "'10.0.0.256' is no host"),
        ("# ä\nä -> 80", (2, 1), "'ä' is no host"),
        ("7005 -> 80, 10.0.0.1", (1, 13), "write 10.0.0.1:PORT"),
        ("-> 80", (1, 1), "nothing stands where an end should"),
        ("7005 -> 80 weight=3", (1, 12), "'weight=3' stands behind the end; options are written in TOML"),
        ("7005 -> 80 -> 81", (1, 12), "'-> 81' stands behind"),
    ];
    for (text, (line, column), want) in table {
        let Err(fault) = parse(text) else { panic!("{text} was read") };
        assert_eq!((fault.line, fault.column), (line, column), "{text}: {fault}");
        assert!(fault.what.contains(want), "{text}: {fault}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_fall(text in "[0-9a-z:./# ,>\\-\n\r\tä\u{feff}]{0,200}") {
        if let Err(fault) = parse(&text) {
            prop_assert!(fault.line <= text.matches('\n').count() + 1);
        }
    }
}
