//! The system calls that have no safe face here: fork, namespaces, mounts.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Which side of a fork this is.
pub(crate) enum Side {
    Child,
    Parent(i32),
}

/// Splits the process. Only while it has one thread.
pub(crate) fn fork() -> io::Result<Side> {
    // SAFETY: callers have checked that no other thread exists, so no lock is held by one that the child lacks.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid)),
    }
}

/// Own namespaces of the kinds in `flags` (`CLONE_NEW*`).
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Moves the calling thread into a network namespace. Async-signal-safe.
pub(crate) fn enter_net(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no memory; the descriptor is open.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// `mount(2)` without data.
pub(crate) fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the texts live through the call; no data is passed.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) }).map(drop)
}

/// This process is killed when its parent's thread ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// Ctrl-C is for the innermost process; those around it wait for its status.
pub(crate) fn ignore_interrupts() {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: SIG_IGN runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Reaps children until `child` ends; its status as a shell would say it.
pub(crate) fn wait_for(child: i32) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid == child {
            return if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
        }
        if pid < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return 1;
        }
    }
}

/// A network namespace of its own; it lives as long as the descriptor or a process or device in it.
pub(crate) fn new_net() -> io::Result<OwnedFd> {
    let thread = std::thread::Builder::new().name("netns".into()).spawn(|| {
        unshare(libc::CLONE_NEWNET)?;
        std::fs::File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
    })?;
    thread.join().map_err(|_| io::Error::other("the thread that makes a namespace panicked"))?
}

/// Lets a command start in `namespace` (`None`: here) and, if asked, end with the thread that starts it.
pub(crate) fn prepare(
    command: &mut std::process::Command,
    namespace: Option<std::sync::Arc<OwnedFd>>,
    with_parent: bool,
) {
    use std::os::unix::process::CommandExt as _;
    let setup = move || {
        unblock_all()?;
        if let Some(namespace) = &namespace {
            enter_net(namespace.as_fd())?;
        }
        if with_parent {
            die_with_parent()?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure calls pthread_sigmask, setns and prctl only, which are safe there.
    unsafe { command.pre_exec(setup) };
}

/// A child inherits what [`block_interrupts`] blocked; it is to hear its signals. Async-signal-safe.
fn unblock_all() -> io::Result<()> {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set before it is read; the pointer is to a live value.
    unsafe {
        check(libc::sigemptyset(set.as_mut_ptr()))?;
        match libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Ctrl-C and SIGTERM as something to wait for, in this thread and those it starts.
pub(crate) fn block_interrupts() -> io::Result<libc::sigset_t> {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it; all calls take pointers to live values.
    unsafe {
        check(libc::sigemptyset(set.as_mut_ptr()))?;
        for signal in [libc::SIGINT, libc::SIGTERM] {
            check(libc::sigaddset(set.as_mut_ptr(), signal))?;
        }
        let set = set.assume_init();
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
            0 => Ok(set),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Takes one of the blocked signals: at once or not at all, or waits for one.
pub(crate) fn take_interrupt(set: &libc::sigset_t, wait: bool) -> io::Result<bool> {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let timeout = if wait { std::ptr::null() } else { &raw const now };
    loop {
        // SAFETY: the set and the time live through the call; nobody wants the details.
        let taken = unsafe { libc::sigtimedwait(set, std::ptr::null_mut(), timeout) };
        if taken > 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN) => return Ok(false),
            Some(libc::EINTR) => {}
            _ => return Err(error),
        }
    }
}

/// `setsockopt(2)` with a value that the kernel takes as it lies in memory.
pub(crate) fn set_option<T: Copy>(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of a live value.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length) })
        .map(drop)
}
