//! `cargo xtask deb`: a Debian package of the whole, by `dpkg-deb` from a staged tree (docs/decisions/0027).

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap_complete::Shell;

use crate::man;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Programs link `libflow.so.0` as long as its calls stay.
const SONAME: &str = "libflow.so.0";

/// Programs that are installed, and the crates they are of.
fn programs() -> Vec<String> {
    man::commands().map(|command| command.get_name().to_owned()).collect()
}

/// What `cargo xtask deb` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder of the package
    #[arg(long, value_name = "DIR", default_value = "target/deb")]
    out: PathBuf,
    /// Take unoptimised programs: quick to build, for tests
    #[arg(long)]
    debug: bool,
}

/// Builds the package.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let built = build(root, options.debug)?;
    let architecture = said(Command::new("dpkg").arg("--print-architecture")).context("dpkg is needed; install it")?;
    fs::create_dir_all(&options.out)?;
    let stage = options.out.join(format!("flowring_{VERSION}"));
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    let tree = Tree { stage: &stage, root };
    tree.programs(&built)?;
    tree.library(&built)?;
    if options.debug {
        // Whoever tests links the library that stands in the build's folder, by its own name.
        done(&mut building(root, true))?;
    }
    tree.documents()?;
    tree.completions()?;
    tree.control(&architecture)?;
    let package = options.out.join(format!("flowring_{VERSION}_{architecture}.deb"));
    let mut pack = Command::new("dpkg-deb");
    // Small for those who fetch it; soon made for tests.
    let effort = if options.debug { "-z1" } else { "-z6" };
    pack.args(["--root-owner-group", "-Zxz", effort, "--build"]).arg(&stage).arg(&package);
    said(&mut pack)?;
    fs::remove_dir_all(&stage)?;
    println!("{}", package.display());
    Ok(())
}

/// cargo, building all at once: alone, the library would have its dependencies built with fewer features, all anew.
fn building(root: &Path, debug: bool) -> Command {
    let mut cargo = lab::binaries::cargo();
    cargo.current_dir(root).args(["build", "--quiet", "--bins", "--lib", "-p", "libflow-capi"]);
    cargo.args((!debug).then_some("--release"));
    for program in programs() {
        cargo.arg("-p").arg(program);
    }
    cargo
}

/// Builds what is packaged; where it is.
fn build(root: &Path, debug: bool) -> Result<PathBuf> {
    // Programs that link the library name its version; those of the tests, in the build's folder, do not.
    done(building(root, debug).env("FLOWRING_SONAME", SONAME))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join(if debug { "debug" } else { "release" }))
}

/// The tree that is packed.
struct Tree<'a> {
    stage: &'a Path,
    root: &'a Path,
}

impl Tree<'_> {
    fn put(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let file = self.stage.join(path);
        let folder = file.parent().context("a path in the package")?;
        fs::create_dir_all(folder)?;
        for above in folder.ancestors().take_while(|above| above.starts_with(self.stage)) {
            fs::set_permissions(above, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    fn copy(&self, from: &Path, path: &str, mode: u32) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.put(path, bytes, mode)
    }

    /// As Debian wants documents: packed as small as gzip can, without the time of packing.
    fn packed(&self, path: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.put(path, bytes, 0o644)?;
        done(Command::new("gzip").args(["-9nf"]).arg(self.stage.join(path)))
    }

    fn programs(&self, built: &Path) -> Result<()> {
        for program in programs() {
            let path = format!("usr/bin/{program}");
            self.copy(&built.join(program), &path, 0o755)?;
            strip(&self.stage.join(path))?;
        }
        for unit in fs::read_dir(self.root.join("dist/systemd"))? {
            let unit = unit?;
            let name = unit.file_name().into_string().ok().context("a unit's name")?;
            self.copy(&unit.path(), &format!("usr/lib/systemd/system/{name}"), 0o644)?;
        }
        self.copy(&self.root.join("dist/debian/irmd.toml"), "etc/flowring/irmd.toml", 0o644)
    }

    fn library(&self, built: &Path) -> Result<()> {
        let triplet = said(Command::new("dpkg-architecture").args(["-qDEB_HOST_MULTIARCH"]))
            .unwrap_or_else(|_| format!("{}-linux-gnu", std::env::consts::ARCH));
        let folder = format!("usr/lib/{triplet}");
        let name = format!("libflow.so.{VERSION}");
        let path = format!("{folder}/{name}");
        self.copy(&built.join("libflow.so"), &path, 0o644)?;
        strip(&self.stage.join(&path))?;
        symlink(&name, self.stage.join(&folder).join(SONAME))?;
        symlink(SONAME, self.stage.join(&folder).join("libflow.so"))?;
        let pc = format!(
            "libdir=/{folder}\nincludedir=/usr/include\n\nName: flowring\nDescription: Flows by name\n\
             Version: {VERSION}\nLibs: -L${{libdir}} -lflow\nCflags: -I${{includedir}}\n"
        );
        self.put(&format!("{folder}/pkgconfig/flowring.pc"), pc, 0o644)?;
        self.copy(&self.root.join("libflow/capi/include/flowring.h"), "usr/include/flowring.h", 0o644)
    }

    fn documents(&self) -> Result<()> {
        let pages = self.stage.with_extension("man");
        for page in man::write(&pages)? {
            let section = page.rsplit_once('.').context("a page's section")?.1;
            self.packed(&format!("usr/share/man/man{section}/{page}"), fs::read(pages.join(&page))?)?;
        }
        fs::remove_dir_all(&pages)?;
        let docs = "usr/share/doc/flowring";
        for page in [
            "irmd",
            "tools",
            "operations",
            "metrics",
            "security",
            "directory",
            "streams",
            "portfwd",
            "tcpstripe",
            "gameproxy",
            "rendezvous",
            "rendezvous-server",
        ] {
            self.copy(&self.root.join(format!("docs/{page}.md")), &format!("{docs}/{page}.md"), 0o644)?;
        }
        self.copy(
            &self.root.join("docs/grafana-flowring.json"),
            &format!("{docs}/examples/grafana-flowring.json"),
            0o644,
        )?;
        self.packed(&format!("{docs}/changelog"), fs::read(self.root.join("CHANGELOG.md"))?)?;
        let mit = fs::read_to_string(self.root.join("LICENSE-MIT"))?;
        self.put(&format!("{docs}/copyright"), copyright(&mit), 0o644)
    }

    fn completions(&self) -> Result<()> {
        for mut command in man::commands() {
            let name = command.get_name().to_owned();
            for (shell, path) in [
                (Shell::Bash, format!("usr/share/bash-completion/completions/{name}")),
                (Shell::Zsh, format!("usr/share/zsh/vendor-completions/_{name}")),
                (Shell::Fish, format!("usr/share/fish/vendor_completions.d/{name}.fish")),
            ] {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command, &name, &mut script);
                self.put(&path, script, 0o644)?;
            }
        }
        Ok(())
    }

    fn control(&self, architecture: &str) -> Result<()> {
        let kib = said(Command::new("du").args(["-sk", "--apparent-size"]).arg(self.stage))?;
        let kib = kib.split_whitespace().next().context("a size")?.to_owned();
        let control = format!(
            "Package: flowring\nVersion: {VERSION}\nArchitecture: {architecture}\nSection: net\nPriority: optional\n\
             Maintainer: The Flowring project <flowring@users.noreply.github.com>\nInstalled-Size: {kib}\n\
             Depends: {}, init-system-helpers (>= 1.54)\nSuggests: prometheus\n\
             Homepage: https://github.com/flowring/flowring\n\
             Description: flows by name between programs, instead of by address\n \
             A daemon (irmd) and IPC processes (ipcpd-udp) that let programs talk by\n \
             name, with tools and a library for C. A flow is a socket of the kernel,\n \
             and outlives the daemons.\n",
            self.depends()?
        );
        self.put("DEBIAN/control", control, 0o644)?;
        self.put("DEBIAN/conffiles", "/etc/flowring/irmd.toml\n", 0o644)?;
        self.put("DEBIAN/shlibs", format!("libflow 0 flowring (>= {VERSION})\n"), 0o644)?;
        self.put("DEBIAN/triggers", "activate-noawait ldconfig\n", 0o644)?;
        for script in ["postinst", "prerm", "postrm"] {
            let text = fs::read_to_string(self.root.join("dist/debian").join(script))?;
            self.put(&format!("DEBIAN/{script}"), text.replace("@VERSION@", VERSION), 0o755)?;
        }
        let mut sums = Command::new("sh");
        sums.current_dir(self.stage).args(["-c", "find etc usr -type f -print0 | sort -z | xargs -0 md5sum"]);
        self.put("DEBIAN/md5sums", format!("{}\n", said(&mut sums)?), 0o644)
    }

    /// The libraries that programs need, as dpkg-shlibdeps finds them; else those that all Rust programs do.
    fn depends(&self) -> Result<String> {
        let work = self.stage.with_extension("shlibs");
        fs::create_dir_all(work.join("debian"))?;
        fs::write(work.join("debian/control"), "Source: flowring\n\nPackage: flowring\nArchitecture: any\n")?;
        let stage = fs::canonicalize(self.stage)?;
        let mut find = Command::new("dpkg-shlibdeps");
        find.current_dir(&work).args(["-O", "--ignore-missing-info"]);
        find.args(programs().iter().map(|program| format!("-e{}", stage.join("usr/bin").join(program).display())));
        let found = said(&mut find);
        fs::remove_dir_all(&work)?;
        let found = found.ok().and_then(|text| Some(text.trim().strip_prefix("shlibs:Depends=")?.to_owned()));
        Ok(found.filter(|list| !list.is_empty()).unwrap_or_else(|| "libc6, libgcc-s1".to_owned()))
    }
}

fn copyright(mit: &str) -> String {
    let text: String = mit
        .lines()
        .map(|line| if line.trim().is_empty() { " .\n".to_owned() } else { format!(" {}\n", line.trim_end()) })
        .collect();
    format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: Flowring\n\
         Source: https://github.com/flowring/flowring\n\nFiles: *\nCopyright: The Flowring contributors\n\
         License: Expat or Apache-2.0\n\nLicense: Expat\n{text}\nLicense: Apache-2.0\n On Debian systems the text is in \
         /usr/share/common-licenses/Apache-2.0.\n"
    )
}

/// Without what only a debugger reads.
fn strip(file: &Path) -> Result<()> {
    done(Command::new("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(file))
}

fn done(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{:?} cannot be run; install it", command.get_program()))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{:?} cannot be run", command.get_program()))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
