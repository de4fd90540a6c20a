//! Compiles `schema/*.proto` with protox, so that no protoc need be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let schemas = ["types", "irm", "ipcp", "handoff"].map(|name| format!("schema/{name}.proto"));
    println!("cargo::rerun-if-changed=schema");
    let descriptors = protox::compile(&schemas, ["schema"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
