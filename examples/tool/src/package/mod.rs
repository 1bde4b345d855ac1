//! Package files: built, signed here or off-line, shown and verified.

mod build;
mod file;
mod recipe;

pub use build::{Built, build, build_of};
pub use file::{OpenPackage, read};
pub use recipe::{DependencyRecipe, FileRecipe, Recipe, VersionOrder, kind_name};
