//! The file that a capture goes to.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use capture::{Direction, Link, Pcapng, datagrams};

use super::devices::Devices;
use super::socket::Received;
use crate::cli::Capture;
use crate::io::Fault;
use crate::machine::capture::Subject;
use crate::machine::text;

/// Where packets go, and what became of them.
pub(super) struct Sink {
    out: BufWriter<Box<dyn Write>>,
    name: String,
    pcapng: Pcapng,
    devices: Devices,
    snap: u32,
    filter: String,
    captured: u64,
    bytes: u64,
    /// When the last packet came, nanoseconds since 1970.
    last: u64,
}

impl Sink {
    /// Begins the file.
    pub(super) fn create(options: &Capture, subject: &Subject) -> Result<Self, Fault> {
        let path = &options.file;
        let (out, name): (Box<dyn Write>, String) = if path == Path::new("-") {
            if io::stdout().is_terminal() {
                let text = "standard output is a terminal; give a file, or a program that reads it: `-w - | wireshark -k -i -`";
                return Err(Fault::Unable(text.to_owned()));
            }
            (Box::new(io::stdout()), "standard output".to_owned())
        } else {
            // What passed in clear is not for everybody to read.
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
            let unable = |error| Fault::Unable(format!("cannot write {}: {error}", path.display()));
            (Box::new(file.map_err(unable)?), path.display().to_string())
        };
        let application = concat!("irm ", env!("CARGO_PKG_VERSION"), " (Flowring)");
        let (pcapng, begin) = Pcapng::begin(application, "Linux", &[subject.comment()]);
        let out = BufWriter::with_capacity(1 << 20, out);
        let (captured, bytes, last) = (0, 0, 0);
        let (devices, snap, filter) = (Devices::new(options.interface.is_some()), options.snap, subject.text());
        let mut sink = Self { out, name, pcapng, devices, snap, filter, captured, bytes, last };
        sink.written(|out| out.write_all(&begin))?;
        sink.flush()?;
        Ok(sink)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes what of a packet belongs to the subject, `left` datagrams at most. False: nobody reads it any more.
    pub(super) fn take(
        &mut self,
        received: &Received<'_>,
        subject: &mut Subject,
        left: &mut u64,
    ) -> Result<bool, Fault> {
        let Received { packet, net, device, hardware, time, offload } = *received;
        let ip = packet.get(net..).unwrap_or(&[]);
        let Ok(whole) = capture::datagram(Link::RAW, ip) else { return Ok(true) };
        if !subject.wants(whole.from, whole.to, whole.payload) {
            return Ok(true);
        }
        let mut header = Vec::new();
        let say = |bytes: &[u8]| {
            header.extend_from_slice(bytes);
            Ok(())
        };
        let found = self.devices.find((device, hardware), (self.snap, &self.filter), &mut self.pcapng, say)?;
        let Some((interface, link)) = found else { return Ok(true) };
        if !header.is_empty() && !self.written(|out| out.write_all(&header))? {
            return Ok(false);
        }
        let direction =
            if subject.is_outbound(whole.from, whole.to) { Direction::Outbound } else { Direction::Inbound };
        self.last = time;
        let from = if link == Link::ETHERNET { 0 } else { net };
        let mut blocks = Vec::new();
        datagrams(&packet[from..], net - from, offload, |one| {
            if *left > 0 {
                *left -= 1;
                self.captured += 1;
                self.bytes += one.len() as u64;
                let kept = &one[..one.len().min(self.snap as usize)];
                blocks.extend(Pcapng::packet(interface, time, direction, one.len(), kept));
            }
        });
        self.written(|out| out.write_all(&blocks))
    }

    /// False: nobody reads it any more.
    pub(super) fn flush(&mut self) -> Result<bool, Fault> {
        self.written(Write::flush)
    }

    /// Ends the file; says what is in it.
    pub(super) fn finish(&mut self, (matched, dropped): (u64, u64), cuts: bool) -> Result<String, Fault> {
        let numbers: Vec<u32> = self.devices.numbers().collect();
        for (place, number) in numbers.into_iter().enumerate() {
            // The kernel counts for all devices together.
            let (matched, dropped) = if place == 0 { (matched, dropped) } else { (0, 0) };
            let block = Pcapng::statistics(number, self.last, matched, dropped);
            self.written(|out| out.write_all(&block))?;
        }
        self.flush()?;
        let (count, bytes) = (self.captured, text::bytes(self.bytes));
        let plural = if count == 1 { "" } else { "s" };
        let mut said = format!("captured {count} datagram{plural} ({bytes}), {dropped} dropped by the kernel");
        if !cuts {
            said.push_str(
                "; this kernel does not say where it cuts large datagrams: such are in the file as they were sent",
            );
        }
        Ok(said)
    }

    /// A reader that went away is no fault.
    fn written(&mut self, write: impl FnOnce(&mut BufWriter<Box<dyn Write>>) -> io::Result<()>) -> Result<bool, Fault> {
        match write(&mut self.out) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Fault::Unable(format!("cannot write {}: {error}", self.name))),
        }
    }
}
