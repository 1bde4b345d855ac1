//! What happens where the system has no more to give: each test runs itself again in a process with a lower limit.

use std::fs::File;
use std::process::Command;
use std::time::Duration;
use tms_core::blob::{BlobError, BlobStore, DirectoryBlobs};
use tms_core::transport::tcp::{TcpAccess, TcpDial};
use tms_core::transport::{Dial, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const LIMITED: &str = "TMS_TEST_LIMITED";

/// True in the process with the limit; in the other one, runs it.
fn limited(test: &str, limit: &str) -> bool {
    if std::env::var_os(LIMITED).is_some() {
        return true;
    }
    let output = Command::new("sh")
        .args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads", "1", "--nocapture"])
        .env(LIMITED, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

#[test]
fn a_listener_survives_too_many_open_files() {
    if !limited("limit::a_listener_survives_too_many_open_files", "ulimit -n 64") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut access = TcpAccess::bind("127.0.0.1:0", 100).await.unwrap();
        let mut dial = TcpDial::new([access.local_address().unwrap().to_string()]);
        // The system has taken the call; we have not.
        let mut caller = dial.dial().await.unwrap().transport;
        caller.write_all(b"hello").await.unwrap();
        let files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        assert!((10..64).contains(&files.len()), "{}", files.len());
        assert!(
            timeout(Duration::from_millis(300), access.accept()).await.is_err(),
            "it waits"
        );
        drop(files);
        let mut call = timeout(Duration::from_secs(5), access.accept())
            .await
            .unwrap()
            .unwrap()
            .transport;
        let mut heard = [0; 5];
        call.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    });
}

#[test]
fn a_put_without_room_leaves_nothing() {
    // Without the signal, a write beyond the limit is an error as on a full disk.
    if !limited("limit::a_put_without_room_leaves_nothing", "trap '' XFSZ; ulimit -f 64") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let home = tempfile::tempdir().unwrap();
        let blobs = DirectoryBlobs::open(home.path()).unwrap();
        let large = vec![7; 1 << 20];
        for _ in 0..3 {
            let refused = blobs.put(&mut &large[..], None).await;
            assert!(matches!(refused, Err(BlobError::NoSpace)), "{refused:?}");
            assert_eq!(std::fs::read_dir(home.path().join("tmp")).unwrap().count(), 0);
        }
        let (digest, length) = blobs.put(&mut &large[..1000], None).await.unwrap();
        assert_eq!((length, blobs.open(&digest).await.unwrap()), (1000, 1000));
        assert_eq!(
            std::fs::read_dir(home.path()).unwrap().count(),
            2,
            "tmp, and the directory of the one blob"
        );
    });
}
