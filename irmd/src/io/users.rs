//! The system's users and groups, and becoming one of them.
#![expect(unsafe_code, reason = "one socket option that no crate knows, and what a child does before it runs")]

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use nix::unistd::{Gid as NixGid, Group, Uid as NixUid, User, getgrouplist};
use proto::v1::{Failure, FailureKind};
use rustix::process::{Gid, Uid, setsid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tokio::process::Command;

use crate::config::Account;
use crate::machine::Caller;

/// Groups asked for at first; a caller that has more is asked about again.
const GROUPS: usize = 32;
/// The kernel's own bound (NGROUPS_MAX).
const MOST_GROUPS: usize = 65_536;
/// What programs of other users find in PATH.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The number of a user, or of a group.
pub(super) fn id(name: &str, group: bool) -> Option<u32> {
    if group {
        Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
    } else {
        User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
    }
}

/// A user as it would call.
pub(super) fn caller(account: &Account) -> Option<Caller> {
    let user = match account.id {
        Some(uid) => User::from_uid(NixUid::from_raw(uid)).ok().flatten(),
        None => User::from_name(account.as_str()).ok().flatten(),
    };
    match (user, account.id) {
        (Some(user), _) => Some(Caller {
            pid: 0,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: Some(groups_of(&user).ok()?.into_iter().map(|gid| gid.as_raw()).collect()),
        }),
        // A number without a name is a user all the same, in no group.
        (None, Some(uid)) => Some(Caller { uid, gid: u32::MAX, ..Caller::default() }),
        (None, None) => None,
    }
}

pub(super) fn missing(name: &str, group: bool) -> Failure {
    let kind = if group { "group" } else { "user" };
    let text = format!("there is no {kind} {name:?} on this host; correct it, make one, or give a number");
    Failure::new(FailureKind::NotFound, text)
}

/// Does what may wait for a directory of users elsewhere beside the calls of others.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok().flatten()
}

fn groups_of(user: &User) -> nix::Result<Vec<NixGid>> {
    let name = std::ffi::CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
    getgrouplist(&name, user.gid)
}

/// The groups of the process at the other end of a Unix socket, as they were when it connected (SO_PEERGROUPS), beside
/// its first. `None` where the kernel does not say.
pub(super) fn groups_behind(socket: &impl AsFd) -> Option<Arc<[u32]>> {
    let mut groups = vec![0_u32; GROUPS];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).ok()?;
        // SAFETY: `groups` has room for as many bytes as `bytes` says, and both outlive the call.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = usize::try_from(bytes).ok()? / size_of::<u32>();
        match answer {
            0 => {
                groups.truncate(count);
                return Some(groups.into());
            }
            // It said how many there are.
            _ if count > groups.len() && count <= MOST_GROUPS => groups.resize(count, 0),
            _ => return None,
        }
    }
}

/// All that it takes to become a user.
pub(super) struct Login {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    user: User,
}

impl Login {
    /// Looks a user up.
    pub(super) fn of(uid: u32) -> Result<Self, String> {
        let user = User::from_uid(NixUid::from_raw(uid)).ok().flatten();
        let user = user.ok_or_else(|| format!("there is no user {uid} on this host"))?;
        let groups = groups_of(&user).map_err(|e| format!("the groups of {} cannot be found: {e}", user.name))?;
        Ok(Self {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(user.gid.as_raw()),
            groups: groups.into_iter().map(|gid| Gid::from_raw(gid.as_raw())).collect(),
            user,
        })
    }

    /// Lets a command run as the user: with its groups, nothing of irmd's environment, no terminal, and no way back.
    pub(super) fn enter(self, command: &mut Command) {
        let Self { uid, gid, groups, user } = self;
        command.env_clear().env("PATH", PATH).env("HOME", &user.dir).env("SHELL", &user.shell);
        command.env("USER", &user.name).env("LOGNAME", &user.name);
        let become_user = move || {
            // A session of its own: from irmd's, it could type into irmd's terminal.
            setsid()?;
            set_thread_groups(&groups)?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls only, and allocates nothing. The child has one
        // thread: what is done to it is done to the process.
        unsafe { command.pre_exec(become_user) };
    }
}
