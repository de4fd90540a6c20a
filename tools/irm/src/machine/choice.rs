//! Which flows a listing shows, and in which order.

use super::flow::FlowRow;
use crate::cli::{FlowList, Sort, State};

/// The rows that were asked for, in the order asked for.
pub fn choose(wanted: &FlowList, rows: &mut Vec<FlowRow>) {
    rows.retain(|row| is_wanted(wanted, row));
    match wanted.sort {
        Sort::Id => rows.sort_by_key(|row| row.id),
        Sort::Name => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        Sort::Age => rows.sort_by_key(|row| row.age_ms),
        Sort::Idle => rows.sort_by_key(|row| row.idle_ms.unwrap_or(u64::MAX)),
        Sort::Sdus => rows.sort_by_key(|row| std::cmp::Reverse(row.sdus())),
        Sort::Bytes => rows.sort_by_key(|row| std::cmp::Reverse(row.bytes())),
        Sort::Rate => rows.sort_by_key(|row| std::cmp::Reverse(row.rate())),
        Sort::Drops => rows.sort_by_key(|row| std::cmp::Reverse(row.lost())),
        Sort::Rtt => rows.sort_by_key(|row| std::cmp::Reverse(row.rtt_us())),
    }
}

fn is_wanted(wanted: &FlowList, row: &FlowRow) -> bool {
    wanted.name.as_deref().is_none_or(|pattern| matches(pattern, &row.name))
        && wanted.layer.as_deref().is_none_or(|layer| layer == row.layer)
        && wanted.pid.is_none_or(|pid| row.is_of(pid))
        && wanted.state.is_none_or(|state| word(state) == row.state)
}

fn word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Allocated => "allocated",
        State::Ending => "ending",
        State::Ended => "ended",
    }
}

/// Whether the text is of the pattern, in which `*` stands for anything. Takes time in proportion to both lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, yes) in [
            ("echo", "echo", true),
            ("echo", "echo2", false),
            ("*", "", true),
            ("game.*", "game.q2", true),
            ("game.*", "game", false),
            ("*.q2", "game.q2", true),
            ("g*m*q2", "game.q2", true),
            ("a*a", "a", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), yes, "{pattern} {text}");
        }
    }
}
