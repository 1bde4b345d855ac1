//! The link over simulated lines.

mod efficiency;
mod line;
mod simulation;
mod world;
