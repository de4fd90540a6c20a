//! This host's key and certificate in the state directory, and what is signed with them.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use ::identity::{CertificateDer, HostKey, Issued, Issuer, MAX_PEM, RENEWED_AFTER};
use anyhow::{Context, anyhow, bail};
use proto::Name;
use proto::v1::{self, Failure, FailureKind};

use super::state::write;

const KEY: &str = "host-key.pem";
const CERTIFICATE: &str = "host-cert.pem";

/// Who this host is to others. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    issuer: Arc<RwLock<Arc<Issuer>>>,
    key: Arc<Path>,
    certificate: Arc<Path>,
}

impl Identity {
    /// The key of this host, made at the first start. What is there and cannot be used is an error: a host that came up
    /// under another key would be refused by all that know it.
    pub(super) fn open(state_dir: &Path, now: SystemTime) -> anyhow::Result<Self> {
        let (key, certificate) = (state_dir.join(KEY), state_dir.join(CERTIFICATE));
        let chain = match fs::read(&certificate) {
            Ok(pem) => Some(pem),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", certificate.display())),
        };
        let host = match read_key(&key)? {
            Some(host) => host,
            None if chain.is_some() => bail!(
                "the host's key {} is gone, but its certificate {} is there: bring the key back from a backup, or remove the \
                 certificate, too, to become another host (those that know this one will refuse it)",
                key.display(),
                certificate.display()
            ),
            None => make_key(&key)?,
        };
        let issuer = match chain {
            None => Issuer::new(host).map_err(|e| anyhow!(e))?,
            Some(pem) => certified(host, &pem, now).map_err(|why| {
                anyhow!(
                    "the host's certificate {} cannot be shown: {why}; remove it to go on without",
                    certificate.display()
                )
            })?,
        };
        tracing::info!("this host is {}", issuer.key().fingerprint());
        Ok(Self { issuer: Arc::new(RwLock::new(Arc::new(issuer))), key: key.into(), certificate: certificate.into() })
    }

    fn issuer(&self) -> Arc<Issuer> {
        self.issuer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What others know this host by.
    pub(super) fn fingerprint(&self) -> String {
        self.issuer().key().fingerprint().to_string()
    }

    /// A certificate for a program's key, as its name or none.
    pub(super) fn certify(
        &self,
        public_key: &[u8],
        name: Option<&Name>,
        now: SystemTime,
    ) -> Result<v1::CertifyReply, Failure> {
        let issued = self.issuer().issue(public_key, name, now);
        let Issued { chain, not_after } = issued.map_err(|e| Failure::new(FailureKind::Invalid, e.to_string()))?;
        Ok(v1::CertifyReply {
            chain: ders(&chain),
            not_after,
            renew_s: u32::try_from(RENEWED_AFTER.as_secs()).unwrap_or(u32::MAX),
        })
    }

    pub(super) fn show(&self) -> Result<v1::IdentityShowReply, Failure> {
        let issuer = self.issuer();
        let request = issuer.key().request().map_err(|e| Failure::new(FailureKind::Internal, e.to_string()))?;
        let installed = self.certificate.exists();
        Ok(v1::IdentityShowReply {
            fingerprint: issuer.key().fingerprint().to_string(),
            chain: ders(issuer.chain()),
            request,
            key_file: self.key.display().to_string(),
            certificate_file: if installed { self.certificate.display().to_string() } else { String::new() },
        })
    }

    /// Shows this certificate from now on, with those that follow it; the one signed by itself if there is none.
    pub(super) fn install(&self, pem: &str, now: SystemTime) -> Result<(), Failure> {
        let internal = |e: anyhow::Error| Failure::new(FailureKind::Internal, format!("{e:#}"));
        let host = read_key(&self.key).map_err(internal)?;
        let host = host.ok_or_else(|| internal(anyhow!("the host's key {} is gone", self.key.display())))?;
        if host.fingerprint() != self.issuer().key().fingerprint() {
            let text = format!("{} holds another key than this irmd runs with; restart it", self.key.display());
            return Err(Failure::new(FailureKind::Internal, text));
        }
        let issuer = if pem.is_empty() {
            let issuer = Issuer::new(host).map_err(|e| internal(anyhow!(e)))?;
            match fs::remove_file(&self.certificate) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(internal(anyhow!("cannot remove {}: {error}", self.certificate.display())));
                }
                _ => issuer,
            }
        } else {
            let issuer = certified(host, pem.as_bytes(), now).map_err(|why| {
                Failure::new(FailureKind::Invalid, format!("the certificate is not installed: {why}"))
            })?;
            write(&self.certificate, &::identity::to_pem(issuer.chain())).map_err(internal)?;
            issuer
        };
        *self.issuer.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(issuer);
        Ok(())
    }
}

/// The files of certificates as bytes of messages.
fn ders(chain: &[CertificateDer<'static>]) -> Vec<Vec<u8>> {
    chain.iter().map(|certificate| certificate.to_vec()).collect()
}

fn certified(host: HostKey, pem: &[u8], now: SystemTime) -> Result<Issuer, String> {
    let chain = ::identity::certificates(pem).map_err(|e| e.to_string())?;
    Issuer::certified(host, chain, now).map_err(|e| e.to_string())
}

fn read_key(path: &Path) -> anyhow::Result<Option<HostKey>> {
    let away =
        "bring it back from a backup, or remove it to become another host (those that know this one will refuse it)";
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the host's key {}; {away}", path.display()));
        }
    };
    let mode = fs::metadata(path)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "the host's key {} can be read by others (mode {mode:o}), who could pretend to be this host; if nobody has, \
             chmod 600 it, else remove it to become another host",
            path.display()
        );
    }
    let key = HostKey::from_pem(&text)
        .map_err(|e| anyhow!("the host's key {} cannot be used: {e}; {away}", path.display()))?;
    Ok(Some(key))
}

/// Written under another name first: a crash leaves a whole key or none.
fn make_key(path: &Path) -> anyhow::Result<HostKey> {
    let key = HostKey::generate().map_err(|e| anyhow!(e))?;
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let make = || {
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(key.to_pem().as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        // A key that is gone after a crash would be another host.
        fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    make().with_context(|| format!("cannot make the host's key {}; check the directory's owner", path.display()))?;
    tracing::info!("the host's key {} is made", path.display());
    Ok(key)
}

/// The certificates of a file of CAs.
pub(super) fn cas(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    use std::io::Read as _;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let file = file.map_err(|e| e.to_string())?;
    if !file.metadata().is_ok_and(|it| it.is_file()) {
        return Err("it is no file".to_owned());
    }
    let mut pem = Vec::new();
    file.take(MAX_PEM as u64 + 1).read_to_end(&mut pem).map_err(|e| e.to_string())?;
    ::identity::certificates(&pem).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_257_069)
    }

    #[test]
    fn a_host_keeps_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Identity::open(dir.path(), now());
        let first = open().unwrap().fingerprint();
        assert_eq!(open().unwrap().fingerprint(), first);
        let key = dir.path().join(KEY);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");

        let said = || open().unwrap_err().to_string();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(said().contains("can be read by others (mode 640)"), "{}", said());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let pem = fs::read_to_string(&key).unwrap();
        for nonsense in ["", "nonsense", &pem[..pem.len() / 2]] {
            fs::write(&key, nonsense).unwrap();
            assert!(said().contains("cannot be used: it is no Ed25519 key"), "{}", said());
            assert_eq!(fs::read_to_string(&key).unwrap(), nonsense, "it is never replaced");
        }
        fs::write(&key, &pem).unwrap();
        assert_eq!(open().unwrap().fingerprint(), first);
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let host = Identity::open(dir.path(), now()).unwrap();
        let own = HostKey::from_pem(&fs::read_to_string(dir.path().join(KEY)).unwrap()).unwrap().certificate().unwrap();
        let other = HostKey::generate().unwrap().certificate().unwrap();
        let refused = host.install(&::identity::to_pem(&[other]), now()).unwrap_err();
        assert!(refused.message.contains("is for the key SHA256:"), "{refused}");
        assert!(host.install("nonsense", now()).unwrap_err().message.contains("it holds no certificate"));
        host.install(&::identity::to_pem(&[own]), now()).unwrap();
        assert!(host.show().unwrap().certificate_file.ends_with(CERTIFICATE));
        fs::remove_file(dir.path().join(KEY)).unwrap();
        let said = Identity::open(dir.path(), now()).unwrap_err().to_string();
        assert!(said.contains("is gone, but its certificate"), "{said}");
        assert!(host.install("", now()).unwrap_err().message.contains("is gone"));
    }

    #[test]
    fn cas_come_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(cas(&path).unwrap_err().contains("No such file"));
        assert_eq!(cas(dir.path()).unwrap_err(), "it is no file");
        fs::write(&path, "root:x:0").unwrap();
        assert!(!cas(&path).unwrap_err().contains("root"), "what is in a file is not told");
        let own = HostKey::generate().unwrap().certificate().unwrap();
        fs::write(&path, ::identity::to_pem(std::slice::from_ref(&own))).unwrap();
        assert_eq!(cas(&path), Ok(vec![own]));
    }
}
