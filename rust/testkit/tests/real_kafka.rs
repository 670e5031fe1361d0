//! The launcher itself: a broker starts, stops, keeps its port, and leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kafka_fast_testkit::{Options, RealKafka, unique};

#[test]
fn a_broker_starts_stops_and_starts_again_on_its_port() {
    let mut kafka = RealKafka::start(&Options::new().property("auto.create.topics.enable", "false"));
    let address = kafka.address();
    assert!(TcpStream::connect(&address).is_ok());
    kafka.stop();
    assert!(TcpStream::connect(&address).is_err());
    kafka.start_again();
    assert!(TcpStream::connect(&address).is_ok());
    drop(kafka);
    assert!(TcpStream::connect(&address).is_err());
}

/// What a child of this test does, see below: it starts brokers, says where, and waits for its end.
#[test]
#[ignore = "the second half of another test"]
fn two_brokers_and_then_the_end() {
    let own = RealKafka::start(&Options::new());
    println!("broker {}", own.address());
    println!("broker {}", RealKafka::shared());
    std::thread::sleep(Duration::from_secs(120));
}

#[test]
fn brokers_and_their_folders_end_with_a_process_that_is_killed() {
    let tmp = std::env::temp_dir().join(unique("kafka-fast-testkit-killed"));
    std::fs::create_dir_all(&tmp).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "two_brokers_and_then_the_end"])
        .env("TMPDIR", &tmp)
        .env_remove("KAFKA_FAST_BROKER")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let brokers: Vec<String> =
        lines.filter_map(|line| line.split_once("broker ").map(|(_, at)| at.to_owned())).take(2).collect();
    assert_eq!(brokers.len(), 2);
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 2);
    assert!(brokers.iter().all(|at| TcpStream::connect(at).is_ok()));

    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while brokers.iter().any(|at| TcpStream::connect(at).is_ok())
        || std::fs::read_dir(&tmp).unwrap().count() > 0
    {
        assert!(Instant::now() < until, "brokers or folders are left");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::remove_dir(&tmp).unwrap();
}

#[test]
#[should_panic(expected = "no.such.type")]
fn a_broker_that_cannot_start_shows_why() {
    RealKafka::start(&Options::new().property("log.message.timestamp.type", "no.such.type"));
}
