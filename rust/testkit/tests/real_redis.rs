//! The launcher of Redis itself: it starts, stops, hangs, keeps its port and what it should keep, and leaves nothing behind.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kafka_fast_testkit::{RealRedis, RedisOptions, unique};

#[test]
fn a_redis_starts_stops_and_starts_again_on_its_port() {
    let mut redis = RealRedis::start(&RedisOptions::new());
    let address = redis.address();
    assert_eq!(address, format!("127.0.0.1:{}", redis.port()));
    redis.command(&["SET", "a", "1 2"]);
    assert_eq!(redis.command(&["GET", "a"]), "1 2");
    assert_eq!(redis.command(&["MGET", "a", "b"]), "1 2\n");
    assert!(redis.try_command(&["NOSUCH"]).unwrap_err().contains("unknown command"));
    redis.stop();
    assert!(TcpStream::connect(&address).is_err());
    redis.start_again();
    assert_eq!(redis.address(), address);
    assert_eq!(redis.command(&["DBSIZE"]), "0", "nothing is kept by default");
    drop(redis);
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn what_was_answered_is_kept_on_request_however_it_ends() {
    let mut redis = RealRedis::start(&RedisOptions::new().append_only());
    redis.command(&["SET", "a", "1"]);
    redis.kill();
    redis.start_again();
    assert_eq!(redis.command(&["INCR", "a"]), "2");
    redis.stop();
    redis.start_again();
    assert_eq!(redis.command(&["GET", "a"]), "2");
    redis.flush_all();
    assert_eq!(redis.command(&["DBSIZE"]), "0");
}

#[test]
fn a_paused_one_answers_nothing_until_it_goes_on_and_can_be_stopped() {
    let mut redis = RealRedis::start(&RedisOptions::new());
    redis.pause();
    let mut stream = TcpStream::connect(redis.address()).expect("the kernel accepts");
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    std::io::Write::write_all(&mut stream, b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    assert!(stream.read_exact(&mut answer).is_err());
    redis.resume();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");

    redis.pause();
    let began = Instant::now();
    redis.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "it was not killed in the end");
    assert!(TcpStream::connect(redis.address()).is_err());
}

#[test]
fn passwords_users_and_lines_of_configuration() {
    let plain =
        RealRedis::start(&RedisOptions::new().password("secret").config("maxmemory-policy allkeys-lru"));
    assert_eq!(plain.command(&["CONFIG", "GET", "maxmemory-policy"]), "maxmemory-policy\nallkeys-lru");
    let mut stream = TcpStream::connect(plain.address()).unwrap();
    std::io::Write::write_all(&mut stream, b"PING\r\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(answer.starts_with("-NOAUTH"), "{answer}");

    let options = RedisOptions::new().password("secret").user("alice on >hers ~* &* +@all -eval");
    let redis = RealRedis::start(&options);
    assert_eq!(redis.command(&["ACL", "WHOAMI"]), "default");
    assert_eq!(redis.command(&["ACL", "USERS"]), "alice\ndefault");
    assert!(redis.try_command(&["AUTH", "alice", "his"]).unwrap_err().contains("WRONGPASS"));
    assert_eq!(redis.command(&["AUTH", "alice", "hers"]), "OK");
}

#[test]
fn everybody_of_a_process_gets_the_same_shared_one() {
    assert_eq!(RealRedis::shared(), RealRedis::shared());
    assert!(TcpStream::connect(RealRedis::shared()).is_ok());
}

#[test]
#[should_panic(expected = "no-such-directive")]
fn a_redis_that_cannot_start_shows_why() {
    RealRedis::start(&RedisOptions::new().config("no-such-directive 1"));
}

/// A second test process: one of the ignored tests here.
fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", test]).env_remove("KAFKA_FAST_REDIS");
    command
}

/// What a child of the tests below does: it starts two, one of them paused, says where, and waits for its end.
#[test]
#[ignore = "the second half of another test"]
fn two_and_then_the_end() {
    let own = RealRedis::start(&RedisOptions::new());
    own.pause();
    println!("redis {}", own.address());
    println!("redis {}", RealRedis::shared());
    std::thread::sleep(Duration::from_secs(120));
}

#[test]
fn they_and_their_folders_end_with_a_process_that_is_killed() {
    let tmp = std::env::temp_dir().join(unique("kafka-fast-testkit-killed"));
    std::fs::create_dir_all(&tmp).unwrap();
    let mut child = child("two_and_then_the_end").env("TMPDIR", &tmp).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let all: Vec<String> =
        lines.filter_map(|line| line.split_once("redis ").map(|(_, at)| at.to_owned())).take(2).collect();
    assert_eq!(all.len(), 2);
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 2);
    assert!(all.iter().all(|at| TcpStream::connect(at).is_ok()));

    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while all.iter().any(|at| TcpStream::connect(at).is_ok()) || std::fs::read_dir(&tmp).unwrap().count() > 0
    {
        assert!(Instant::now() < until, "processes or folders are left");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::remove_dir(&tmp).unwrap();
}

/// What another child does, where there is no Redis.
#[test]
#[ignore = "the second half of another test"]
fn one() {
    RealRedis::start(&RedisOptions::new());
}

#[test]
fn a_machine_without_redis_is_told_how_to_get_it() {
    let output = child("one").env_remove("KAFKA_FAST_REDIS_SERVER").env("PATH", "/nowhere").output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("redis-server is not installed: run ./dev test once, it installs it"), "{text}");
}
