//! Why a representation gives no content.

/// What is wrong with a representation (§9.6, §9.7). Whatever it is, the content can still be had whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RepresentationError {
    /// It does not begin as a frame of a representation does.
    #[error("not a frame of a representation")]
    Frame,
    /// The frame needs a larger window than [`MAX_WINDOW`](super::MAX_WINDOW).
    #[error("window of the frame is too large")]
    Window,
    /// A block of the frame is damaged, or larger than the window.
    #[error("block of the frame is damaged")]
    Block,
    /// There are bytes behind the frame's last block.
    #[error("bytes behind the end of the frame")]
    Trailing,
    /// A control of a delta is malformed, or gives nothing.
    #[error("control of the delta is malformed")]
    Control,
    /// A delta reads outside of its base, or the base could not be read there.
    #[error("delta reads outside of its base")]
    Base,
    /// It gives more than the manifest says.
    #[error("content is longer than its manifest says")]
    Long,
    /// It ends before the manifest says.
    #[error("content is shorter than its manifest says")]
    Short,
}
