//! Who this host is, and who is trusted with which name, as listings.

use proto::v1;
use serde::Serialize;

use super::ipcp::given;
use super::table::{Column, number, render, render_pairs, words};
use super::text::{age, printable};

/// This host in `irm identity show --json`.
#[derive(Debug, Serialize)]
pub struct HostRow {
    fingerprint: String,
    key_file: String,
    certificate_file: Option<String>,
    certificate: String,
}

/// Somebody who is trusted, in `irm identity list --json`.
#[derive(Debug, Serialize)]
pub struct TrustRow {
    name: String,
    identity: String,
    source: String,
    user: Option<u32>,
    since: Option<u64>,
    #[serde(skip)]
    age: String,
}

impl From<v1::IdentityShowReply> for HostRow {
    fn from(reply: v1::IdentityShowReply) -> Self {
        Self {
            certificate: pem(&reply.chain),
            fingerprint: reply.fingerprint,
            key_file: reply.key_file,
            certificate_file: given(reply.certificate_file),
        }
    }
}

impl TrustRow {
    /// `now` in seconds since 1970.
    pub fn new(info: v1::TrustInfo, now: u64) -> Self {
        let since = Some(info.since).filter(|since| *since != 0);
        Self {
            name: info.name,
            identity: info.identity,
            source: info.source,
            user: info.user.parse().ok(),
            age: since.map_or_else(|| "-".to_owned(), |since| age(now.saturating_sub(since) * 1_000)),
            since,
        }
    }
}

/// Certificates as a PEM file.
pub fn pem(chain: &[Vec<u8>]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let part = |der: &Vec<u8>| pem::encode_config(&pem::Pem::new("CERTIFICATE", der.clone()), config);
    chain.iter().map(part).collect()
}

/// This host, a line for each thing.
pub fn host(row: &HostRow) -> String {
    let certificate = row.certificate_file.as_deref().map_or_else(|| "signed by the host itself".to_owned(), printable);
    render_pairs([
        ("fingerprint", printable(&row.fingerprint)),
        ("key", printable(&row.key_file)),
        ("certificate", certificate),
    ])
}

const COLUMNS: [Column; 5] = [words("NAME"), words("IDENTITY"), words("SOURCE"), words("USER"), number("AGE")];

/// Who is trusted, as a table.
pub fn table(rows: &[TrustRow]) -> String {
    let cells = |row: &TrustRow| {
        let user = row.user.map_or_else(|| "all".to_owned(), |user| user.to_string());
        vec![printable(&row.name), printable(&row.identity), printable(&row.source), user, row.age.clone()]
    };
    render(&COLUMNS, rows.iter().map(cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_trusted_as_a_table_and_as_json() {
        let row = |name: &str, identity: &str, source: &str, user: &str, since| {
            let [name, identity, source, user] = [name, identity, source, user].map(str::to_owned);
            TrustRow::new(v1::TrustInfo { name, identity, source, user, since }, 10_000)
        };
        let rows =
            [row("game.*", "ca:/ca.pem", "irmd.toml", "", 0), row("echo", "SHA256:abc", "first use", "1000", 9_000)];
        let want = "\
NAME    IDENTITY    SOURCE     USER     AGE
game.*  ca:/ca.pem  irmd.toml  all        -
echo    SHA256:abc  first use  1000  16 min
";
        assert_eq!(table(&rows), want);
        let want = r#"[{"name":"game.*","identity":"ca:/ca.pem","source":"irmd.toml","user":null,"since":null},{"name":"echo","identity":"SHA256:abc","source":"first use","user":1000,"since":9000}]"#;
        assert_eq!(serde_json::to_string(&rows).unwrap(), want);
    }

    #[test]
    fn this_host_in_full() {
        let reply = |certificate_file: &str| v1::IdentityShowReply {
            fingerprint: "SHA256:abc".into(),
            chain: vec![vec![1, 2, 3]],
            key_file: "/k".into(),
            certificate_file: certificate_file.into(),
            ..Default::default()
        };
        let text = host(&reply("").into());
        assert_eq!(text, "fingerprint  SHA256:abc\nkey          /k\ncertificate  signed by the host itself\n");
        assert!(host(&reply("/c").into()).ends_with("certificate  /c\n"));
        let want = r#"{"fingerprint":"SHA256:abc","key_file":"/k","certificate_file":"/c","certificate":"-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n"}"#;
        assert_eq!(serde_json::to_string(&HostRow::from(reply("/c"))).unwrap(), want);
    }
}
