//! Keeps the library mapped for the life of the process.
//!
//! When a class loader is collected the JVM unloads its libraries; a runtime thread or a thread-local destructor that
//! still runs code of ours would then fault.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if matches!(os.as_str(), "linux" | "android" | "freebsd") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
