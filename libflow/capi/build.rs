//! The package's library has a version in its name, which programs that link it name; the one in the build's folder, which tests
//! and examples link, has none (docs/decisions/0027).

const SONAME: &str = "FLOWRING_SONAME";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={SONAME}");
    if let Ok(name) = std::env::var(SONAME) {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{name}");
    }
}
