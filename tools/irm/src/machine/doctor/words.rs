//! Every finding of `irm doctor` and its words, once: what is printed, what docs/tools.md shows, what the tests expect.
//!
//! `{word}` stands for a value. In `mend` values are quoted as a shell wants them, so that a line can be pasted; those
//! whose word ends with "command" are commands themselves.

use super::finding::Level;

/// A finding and its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// Its name, in JSON and in the documentation.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: &'static str,
    /// What it means.
    pub means: &'static str,
    /// The command that mends it.
    pub mend: &'static str,
}

macro_rules! findings {
    ($($name:ident, $level:ident, $id:literal, $found:literal, $means:literal, $mend:literal;)*) => {
        $(
            #[doc = $found]
            pub const $name: Words =
                Words { id: $id, level: Level::$level, found: $found, means: $means, mend: $mend };
        )*
        /// All of them, in the order of the checks.
        pub const ALL: &[Words] = &[$($name),*];
    };
}

findings! {
    RUN_DIR_NONE, Trouble, "run-dir-none",
        "no run directory can be chosen: FLOWRING_RUN_DIR and XDG_RUNTIME_DIR are not set",
        "no program of this user finds irmd",
        "export FLOWRING_RUN_DIR=/run/flowring";
    RUN_DIR_MISSING, Trouble, "run-dir-missing",
        "the run directory {dir} does not exist",
        "irmd never ran there, or programs look in another directory than irmd",
        "{start command}";
    RUN_DIR_ELSEWHERE, Trouble, "run-dir-elsewhere",
        "no irmd runs in {dir}, one runs in {other}",
        "programs of this user look in the first and do not find it",
        "export FLOWRING_RUN_DIR={other}";
    RUN_DIR_FOREIGN, Trouble, "run-dir-foreign",
        "the run directory {dir} is user {owner}'s, who is neither root nor irmd's user",
        "its owner can put itself in irmd's place and take every flow",
        "export FLOWRING_RUN_DIR=/run/flowring";
    RUN_DIR_WRITABLE, Trouble, "run-dir-writable",
        "the run directory {dir} may be written by others (mode {mode})",
        "they can put themselves in irmd's place; irmd does not start there again",
        "chmod go-w {dir}";
    RUN_DIR_CLOSED, Note, "run-dir-closed",
        "the run directory {dir} is closed to other users (mode {mode})",
        "programs of other users do not reach irmd",
        "chmod a+rx {dir}";
    IRMD_DEAD, Trouble, "irmd-dead",
        "nobody listens at {socket}: irmd was killed or crashed",
        "no program gets a new flow; flows that are open go on",
        "{start command}";
    IRMD_NONE, Trouble, "irmd-none",
        "there is no {socket}: irmd does not run",
        "no program gets a new flow; flows that are open go on",
        "{start command}";
    IRMD_FORBIDDEN, Trouble, "irmd-forbidden",
        "this user may not use {socket}",
        "its programs get no flows",
        "chmod a+rx {dir} && chmod a+rw {socket}";
    IRMD_STOPPED, Trouble, "irmd-stopped",
        "irmd (pid {pid}) is stopped by a signal or a debugger",
        "every call to it waits, and fails",
        "kill -CONT {pid}";
    IRMD_STUCK, Trouble, "irmd-stuck",
        "irmd (pid {pid}) at {socket} did not answer within {ms} ms",
        "it is overloaded or hangs; every call to it waits. A restart costs no open flow",
        "{restart command}";
    IRMD_NO_IRMD, Trouble, "irmd-not-irmd",
        "what listens at {socket} is no irmd: {why}",
        "another program took its place, or it is of a release that this irm does not understand",
        "{restart command}";
    IRMD_VERSION, Trouble, "irmd-version",
        "irmd speaks protocol version {theirs}, this irm and what was installed with it version {ours}",
        "programs of the one version are refused by the daemons of the other; open flows go on",
        "{restart command}";
    IRMD_BUILD, Note, "irmd-build",
        "irmd is build {theirs}, this irm build {ours}",
        "one of the two was upgraded and the other not",
        "{restart command}";
    DAEMON_REPLACED, Note, "daemon-replaced",
        "the program file of {program} (pid {pid}) was replaced since it started",
        "the old one still runs; a restart costs no open flow",
        "{restart command}";
    DAEMON_YOUNG, Note, "daemon-young",
        "{program} (pid {pid}) started {age} ago",
        "programs bring back their flows and names for some seconds; what is missing now may be back soon",
        "irm doctor";
    IRMD_OTHERS, Note, "irmd-others",
        "other irmds run on this host: {pids}",
        "programs find only the one of their own run directory, {dir} here",
        "ps -o pid,user,args -p {pids}";
    IPCP_NONE, Note, "ipcp-none",
        "there is no IPCP",
        "flows stay within this host",
        "irm ipcp bootstrap --type udp --name udp0 --layer net --ip {ip}";
    IPCP_DOWN, Trouble, "ipcp-down",
        "IPCP {ipcp} is down: {why}",
        "its layer takes no new flows; flows that are open go on",
        "irm ipcp destroy --name {ipcp} && {bootstrap command}";
    IPCP_LOOPING, Trouble, "ipcp-looping",
        "IPCP {ipcp} was started {times} times again and does not stay: {why}",
        "its layer takes flows only now and then",
        "{log command}";
    IPCP_UNMADE, Trouble, "ipcp-not-bootstrapped",
        "IPCP {ipcp} is in no layer: {why}",
        "no flow goes over it",
        "{bootstrap command}";
    IPCP_STARTING, Note, "ipcp-starting",
        "IPCP {ipcp} is just being started",
        "its layer takes flows in a moment",
        "irm doctor";
    IPCP_STOPPED, Trouble, "ipcp-stopped",
        "IPCP {ipcp} (pid {pid}) is stopped by a signal or a debugger",
        "its layer takes no new flows; flows that are open go on",
        "kill -CONT {pid}";
    SESSION_NONE, Trouble, "session-not-joined",
        "IPCP {ipcp} is not in its session: {why}",
        "flows through the rendezvous do not come about; it goes on trying, and flows that are open go on",
        "irm nat --via {server}";
    IPCP_STRANGER, Trouble, "ipcp-refused",
        "an IPCP {ipcp} listens at {socket}, and irmd does not know it",
        "it is of another protocol version than irmd, whose log says which, and carries no flows",
        "{stop command}";
    IPCP_STALE, Note, "ipcp-stale",
        "nobody listens at {socket}: IPCP {ipcp} was killed and is not known any more",
        "nothing: the file is in nobody's way",
        "rm {socket}";
    ADDRESS_GONE, Trouble, "address-gone",
        "the address {ip} of IPCP {ipcp} is on no interface of this host",
        "nothing comes to its layer and nothing leaves it. The length of the prefix is a guess: it is that of your network",
        "ip address add {ip}/{prefix} dev {device}";
    ADDRESS_TENTATIVE, Trouble, "interface-no-carrier",
        "{device}, which has the address {ip} of IPCP {ipcp}, has no carrier",
        "its cable, its radio or what is at its other end is off: nothing comes and nothing leaves",
        "ip -details link show {device}";
    INTERFACE_DOWN, Trouble, "interface-down",
        "{device}, which has the address {ip} of IPCP {ipcp}, is down",
        "nothing comes to its layer and nothing leaves it",
        "ip link set {device} up";
    MTU_SMALL, Trouble, "mtu-small",
        "{device}, which has the address {ip} of IPCP {ipcp}, has an MTU of {mtu} bytes; a request needs {need}",
        "requests go in pieces, which many routers and firewalls drop; SDUs are short, message and stream flows fail",
        "ip link set {device} mtu 1500";
    LOOPBACK, Trouble, "loopback-address",
        "IPCP {ipcp} has the loopback address {ip}, and its directory names the host {host}",
        "no datagram goes from a loopback address to another host",
        "irm ipcp destroy --name {ipcp} && {bootstrap command}";
    IPV6_OFF, Trouble, "ipv6-off",
        "IPCP {ipcp} has the IPv6 address {ip}, and IPv6 is switched off ({setting})",
        "nothing comes to its layer and nothing leaves it",
        "sysctl -w {setting}=0";
    PORT_FOREIGN, Trouble, "port-taken",
        "UDP port {port} of {ip}, which IPCP {ipcp} needs, is held by {holder}",
        "requests of other hosts go there; the IPCP cannot listen",
        "kill {pid}";
    PORT_TAKEN_BY_WHOM, Trouble, "port-taken-by-somebody",
        "UDP port {port} of {ip}, which IPCP {ipcp} needs, is held by a socket of user {uid}",
        "requests of other hosts go there; the IPCP cannot listen",
        "ss -Hulpn 'sport = :{port}'";
    PORT_UNBOUND, Trouble, "port-not-bound",
        "IPCP {ipcp} says that it listens on {address}, and no socket of this network does",
        "it runs in another network namespace than this irm",
        "nsenter --target {pid} --net irm doctor";
    SELF_SILENT, Trouble, "self-silent",
        "IPCP {ipcp} did not answer requests that this host sent to its own {address} within {ms} ms",
        "a firewall of this host drops them, or the IPCP hangs",
        "nft list ruleset";
    SELF_CLOSED, Trouble, "self-closed",
        "requests that this host sent to its own {address} were answered by: {why}",
        "a firewall of this host rejects them, or IPCP {ipcp} ended just now",
        "nft list ruleset";
    FIREWALL_DROPS, Trouble, "firewall-drops",
        "the firewall drops UDP to port {port}: {rule} in chain {chain} of table {table}",
        "other hosts get no flows to names of this one; their requests are not heard",
        "nft insert rule {family} {table} {chain} udp dport {port} accept";
    FIREWALL_MAY_DROP, Note, "firewall-may-drop",
        "the firewall may drop UDP to port {port}: {rule} in chain {chain} of table {table}",
        "for some hosts or interfaces the rule holds, for others not",
        "nft list chain {family} {table} {chain}";
    FIREWALL_KEEPS, Trouble, "firewall-keeps-in",
        "the firewall drops what this host sends to UDP port {port}: {rule} in chain {chain} of table {table}",
        "no flow is allocated to other hosts; requests do not leave",
        "nft insert rule {family} {table} {chain} udp dport {port} accept";
    PEER_CLOSED, Trouble, "peer-closed",
        "{host} answers for {names}, and its UDP port {port} is closed",
        "no ipcpd-udp listens there: it is dead, has another address, or another port",
        "ssh {ip} irm doctor";
    PEER_SILENT, Trouble, "peer-silent",
        "{host}, where {names} is to be, did not answer {sent} requests within {ms} ms",
        "the host is off, the address is wrong, or a firewall on the way drops UDP to port {port}",
        "ssh {ip} irm doctor";
    PEER_UNREACHABLE, Trouble, "peer-unreachable",
        "there is no way to {host}, where {names} is to be: {why}",
        "the host is off or this host has no route to it",
        "ip route get {ip}";
    PEER_FORBIDDEN, Trouble, "peer-forbidden",
        "this host's own firewall forbids sending to {host}, where {names} is to be",
        "no flow goes there",
        "nft list ruleset";
    PEER_VERSION, Trouble, "peer-version",
        "the shim at {host}, where {names} is to be, speaks version {theirs} of the protocol, this host version {ours}",
        "flows to it are refused until the older of the two is upgraded",
        "ssh {ip} irm doctor";
    PEER_CLASSIC, Note, "peer-classic",
        "the shim at {host}, where {names} is to be, is one of 2016",
        "only raw flows reach it, and nobody is told when they end",
        "ssh {ip} ipcpd-udp --version";
    DNS_FAILED, Trouble, "dns-failed",
        "layer {layer} cannot look up names in {zone}: {why}",
        "names that are in DNS alone are not found, and none is registered there",
        "{again command}";
    DNS_SLOW, Trouble, "dns-slow",
        "layer {layer} looked up a name in {zone} for {ms} ms and had no answer",
        "the name server is off, or its address is wrong; allocations to names in DNS wait and fail",
        "{again command}";
    DNS_UNREGISTERED, Trouble, "dns-not-registered",
        "{name} is not in DNS as layer {layer} wants it: {why}",
        "other hosts do not find it, or no longer soon; once the reason is mended, this tries at once",
        "irm name register {name} --layer {layer}";
    NAME_UNKNOWN, Trouble, "name-unknown",
        "no layer knows {name}",
        "flows to it fail: unknown name",
        "irm ipcp host add --name {ipcp} {name}=ADDRESS";
    NAME_UNSERVED, Trouble, "name-not-served",
        "{name} exists on this host, and no process serves it",
        "flows to it wait until their deadline and fail: nobody accepts",
        "irm bind program PROGRAM --name {name} --auto";
    NAME_BUSY, Note, "name-busy",
        "{pending} flows to {name} wait, and no process that serves it accepts",
        "its programs are busy or hang",
        "irm name list";
    NAME_FAILED, Trouble, "name-not-looked-up",
        "{source} of layer {layer} could not be asked for {name}: {why}",
        "nothing is known of the name; flows to it fail",
        "irm name resolve {name}";
    NAME_VOID, Trouble, "name-void",
        "{name} is at {host}, where no flow goes: {why}",
        "the host that registered it has not refreshed its record, or another shim than the one meant is there",
        "ssh {ip} irm name register {name} --layer {layer}";
    CLOCK_WRONG, Trouble, "clock-wrong",
        "the clock says {date}, and this irm was made after that",
        "certificates and records of DNS seem to be of the future; peers are refused",
        "timedatectl set-ntp true";
    CLOCK_BACK, Trouble, "clock-set-back",
        "{file} was written {age} in the future",
        "the clock was set back, or is wrong now; certificates and records of DNS may seem to be of the future",
        "timedatectl set-ntp true";
    CLOCK_FREE, Note, "clock-not-synchronised",
        "nothing keeps this host's clock right, says the kernel",
        "from some minutes of error on, certificates and signed updates of DNS are refused",
        "timedatectl set-ntp true";
    CERTIFICATE_OVER, Trouble, "certificate-expired",
        "this host's certificate ended {age} ago",
        "other hosts refuse its programs' message and stream flows. A CA makes a new one of this request",
        "irm identity show --request";
    CERTIFICATE_EARLY, Trouble, "certificate-of-the-future",
        "this host's certificate begins in {age}",
        "the clock is wrong, here or where it was made; other hosts refuse its programs' message and stream flows",
        "timedatectl set-ntp true";
    CERTIFICATE_ENDS, Note, "certificate-ends",
        "this host's certificate ends in {age}",
        "then other hosts refuse its programs' message and stream flows. A CA makes a new one of this request",
        "irm identity show --request";
    STATE_MISSING, Trouble, "state-missing",
        "the state directory {dir} does not exist",
        "the next start of irmd is that of a new host: nobody knows its key",
        "install -d -m 700 -o {user} {dir}";
    STATE_READONLY, Trouble, "state-read-only",
        "the state directory {dir} is on a file system that cannot be written",
        "what irm changes is lost with the next restart",
        "mount -o remount,rw {mount}";
    STATE_FOREIGN, Trouble, "state-foreign",
        "the state directory {dir} is user {owner}'s, irmd runs as user {user}",
        "irmd cannot write there, or its owner can change what irmd believes",
        "chown {user} {dir}";
    STATE_WRITABLE, Trouble, "state-writable",
        "the state directory {dir} may be written by others (mode {mode})",
        "they can give irmd names, rules and trust; it does not start again with such a directory",
        "chmod go-w {dir}";
    DISK_FULL, Trouble, "disk-full",
        "the file system of {dir} has {free} left",
        "what irm changes is lost with the next restart",
        "df -h {dir}";
    KEY_MISSING, Trouble, "key-missing",
        "this host's key {file} is gone",
        "irmd goes on with it until it ends; then this is another host, refused by all that know it",
        "irm identity show";
    KEY_OPEN, Trouble, "key-open",
        "this host's key {file} may be read by others (mode {mode})",
        "who reads it is this host to all others",
        "chmod 600 {file}";
    DESCRIPTORS_SHORT, Trouble, "descriptors-short",
        "{program} (pid {pid}) has {open} of {limit} descriptors open",
        "each flow takes one: few more can be made, the rest is refused",
        "prlimit --pid {pid} --nofile={more}";
    DESCRIPTORS_FEW, Note, "descriptors-few",
        "{program} (pid {pid}) may have {limit} descriptors open",
        "each flow takes one: fewer flows than may wait for one name",
        "prlimit --pid {pid} --nofile={more}";
    BUFFERS_TINY, Trouble, "buffers-tiny",
        "a socket's buffer is {bytes} bytes ({setting})",
        "that is the room of {datagrams} full datagrams: bursts are lost",
        "sysctl -w {setting}={want}";
    BUFFERS_SMALL, Note, "buffers-small",
        "a socket's buffer is at most {bytes} bytes ({setting}); 1 Gbit/s over 40 ms has 5,000,000 bytes on the way",
        "a fast and long path loses datagrams in bursts; nothing to do where paths are short or slow",
        "sysctl -w {setting}=5000000";
    QUEUE_OVERFLOW, Note, "queue-overflow",
        "receive queues of UDP sockets overflowed {times} times since the host started ({share} of what came)",
        "programs read too slowly, or buffers are too small; sockets made from then on get larger ones",
        "sysctl -w net.core.rmem_default=5000000";
    QUEUE_LISTEN, Note, "queue-listen-port",
        "IPCP {ipcp} lost {times} datagrams because its listen port's queue was full",
        "it was flooded, or had no CPU; who asked then asked again",
        "irm ipcp list --json";
    GSO_MISSING, Note, "segmentation-missing",
        "this kernel does not segment UDP ({what})",
        "bulk costs up to twenty times as much CPU",
        "uname -r";
    KERNEL_HASH, Note, "kernel-hash",
        "Linux {release} finds sockets of one port one after the other; from 6.13 on by hash",
        "IPCP {ipcp} has all flows on its listen port: with more than 1,000 each datagram costs 10 µs and more",
        "{bootstrap command}";
    CONNTRACK_FULL, Trouble, "conntrack-full",
        "the firewall's table of flows has {count} of {max} entries",
        "once it is full, datagrams of new flows are dropped",
        "sysctl -w net.netfilter.nf_conntrack_max={want}";
    MEMORY_SHORT, Trouble, "memory-short",
        "{program} (pid {pid}) has {used} of the {limit} of memory that its control group may have",
        "the kernel ends it when it wants more; open flows go on",
        "systemctl set-property {unit} MemoryMax={want}";
    USER_NAMESPACES, Note, "user-namespaces",
        "an ordinary user may not make user namespaces ({setting})",
        "cargo demo and the tests need root; flows do not notice",
        "sysctl -w {setting}={want}";
}
