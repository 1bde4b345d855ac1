//! Where the machine has its memory.

use std::path::PathBuf;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    std::fs::write(
        out.join("memory.x"),
        "MEMORY { FLASH : ORIGIN = 0x08000000, LENGTH = 1024K RAM : ORIGIN = 0x20000000, LENGTH = 192K }\n",
    )
    .expect("the build directory can be written");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg=-Tlink.x");
}
