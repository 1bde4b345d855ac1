use super::super::{Habit, Settings};
use super::*;
use crate::port::ModemPort;
use tokio::time::timeout;

async fn said(port: &mut Box<dyn ModemPort>) -> String {
    until_quiet(port, 20).await
}

async fn until_quiet(port: &mut Box<dyn ModemPort>, seconds: u64) -> String {
    let mut heard = Vec::new();
    let mut buffer = [0; 1000];
    while let Ok(Ok(length @ 1..)) = timeout(Duration::from_secs(seconds), port.read(&mut buffer)).await {
        heard.extend(&buffer[..length]);
    }
    String::from_utf8_lossy(&heard).into_owned()
}

async fn tell(port: &mut Box<dyn ModemPort>, bytes: &str) {
    port.write_all(bytes.as_bytes()).await.unwrap();
}

async fn ask(port: &mut Box<dyn ModemPort>, bytes: &str) -> String {
    tell(port, bytes).await;
    said(port).await
}

#[tokio::test(start_paused = true)]
async fn two_modems_talk() {
    let exchange = Exchange::new(Settings::default());
    let (one, other) = (
        exchange.modem("100", Quirks::default()),
        exchange.modem("200", Quirks::default()),
    );
    let (mut near, mut far) = (one.opener().open().unwrap(), other.opener().open().unwrap());
    assert_eq!(one.opener().open().err().unwrap().kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(ask(&mut near, "ATE0\r").await, "ATE0\r\r\nOK\r\n");
    assert_eq!(ask(&mut far, "ATE0+VCID=1\r").await, "ATE0+VCID=1\r\r\nOK\r\n");
    assert_eq!(ask(&mut near, "ATV0\r").await, "0\r");
    assert_eq!(ask(&mut near, "ATV1X4&C1\r").await, "\r\nOK\r\n");

    tell(&mut near, "ATDT200\r").await;
    let heard = until_quiet(&mut far, 5).await;
    assert_eq!(
        heard,
        "\r\nRING\r\n\r\nDATE = 0321\r\n\r\nTIME = 1405\r\n\r\nNMBR = 100\r\n"
    );
    assert!(!far.signals().unwrap().carrier);
    assert_eq!(ask(&mut far, "ATA\r").await, "\r\nCONNECT 9600\r\n");
    assert_eq!(said(&mut near).await, "\r\nCONNECT 9600\r\n");
    assert!(near.signals().unwrap().carrier && far.signals().unwrap().carrier);
    tell(&mut near, "hello").await;
    assert_eq!(said(&mut far).await, "hello");

    // The escape sequence, which the other hears, and back.
    assert_eq!(ask(&mut near, "+++").await, "\r\nOK\r\n");
    assert_eq!(said(&mut far).await, "+++");
    assert_eq!(ask(&mut near, "ATO\r").await, "\r\nCONNECT 9600\r\n");
    far.set_dtr(false).unwrap();
    assert_eq!(said(&mut far).await, "\r\nNO CARRIER\r\n");
    assert_eq!(said(&mut near).await, "\r\nNO CARRIER\r\n");
    assert!(!near.signals().unwrap().carrier && !far.signals().unwrap().carrier);
    assert_eq!(one.log().last().unwrap(), "O");
}

#[tokio::test(start_paused = true)]
async fn calls_come_to_nothing_in_all_ways() {
    let exchange = Exchange::new(Settings {
        prefix: Some("9".into()),
        ..Settings::default()
    });
    let modem = exchange.modem("100", Quirks::default());
    let _silent = exchange.modem("200", Quirks::default());
    for (number, habit) in [("1", Habit::Busy), ("2", Habit::NoAnswer), ("3", Habit::Voice)] {
        exchange.set_habit(number, habit);
    }
    let mut port = modem.opener().open().unwrap();
    ask(&mut port, "ATE0S7=15\r").await;
    for (dial, result) in [
        ("ATDT9,1\r", "BUSY"),
        ("ATDT9W2\r", "NO ANSWER"),
        ("ATD93\r", "NO CARRIER"),
        ("ATDP94\r", "NO CARRIER"),
        ("ATDT1\r", "NO CARRIER"),
        ("ATDT9200\r", "NO ANSWER"),
        ("ATDT9100\r", "BUSY"),
        ("AT*X\r", "ERROR"),
    ] {
        assert_eq!(ask(&mut port, dial).await, format!("\r\n{result}\r\n"), "{dial}");
    }
    tell(&mut port, "ATDT92\r").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(ask(&mut port, "x").await, "\r\nNO CARRIER\r\n");
    modem.plug(false);
    assert_eq!(ask(&mut port, "ATDT92\r").await, "\r\nNO DIALTONE\r\n");
    modem.power(false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&mut port, "AT\r").await, "");
    modem.power(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&mut port, "AT\r").await, "AT\r\r\nOK\r\n");
}
