//! The README's walks through the main job, over HTTP and from a terminal, run from its own text, against what its first command
//! starts: the real script, an optimised build, a private bus and a private database.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use local::{ports, process::Signal};
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use shared::{
    clock::{Clock as _, SystemClock},
    random,
};
use tempfile::TempDir;
use tests::{eventually, program, scratch};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

const HEADINGS: [&str; 2] = ["## A walk through the main job", "## From a terminal"];

/// The first run builds everything, optimised.
const TO_GET_READY: Duration = Duration::from_mins(18);
const TO_WALK: Duration = Duration::from_mins(1);
const TO_STOP: Duration = Duration::from_secs(30);

/// The addresses and the directory in the text, instead of which the test has others.
const PORTS: [u16; 3] = [8080, 8081, 8082];
const DATA: &str = ".local/";
/// How the launcher begins.
const FIRST_LINE: &str = "data and logs are in ";

/// Commands, and the lines that they print.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    commands: String,
    printed: Vec<String>,
}

#[tokio::test]
async fn the_readme_does_what_it_says() -> anyhow::Result<()> {
    let readme = fs::read_to_string(top().join("README.md"))?;
    let blocks = HEADINGS.map(|heading| blocks(&readme, heading)).concat();
    ensure!(blocks.len() >= 9, "the walk has {} blocks", blocks.len());

    let launcher = Launcher::start().await?;
    // Past the test harness, which keeps what a passed test prints to itself.
    writeln!(io::stderr(), "from the launcher's first line to `ready`: {:?}", launcher.took)?;
    let steps: Vec<_> = blocks.iter().map(|block| steps(&launcher.adapt(block))).collect();
    let printed = walk(&steps.iter().flatten().collect::<Vec<_>>()).await?;
    let mut printed = printed.iter();
    for (block, steps) in blocks.iter().zip(&steps) {
        for step in steps {
            let printed = printed.next().context("each step printed something or nothing")?;
            if !fit(&step.printed, printed) {
                let (expected, actual) = (step.printed.join("\n"), printed.join("\n"));
                panic!("the README says:\n\n{block}\nexpected:\n{expected}\n\nactual:\n{actual}\n");
            }
        }
    }

    let pids = launcher.pids()?;
    ensure!(pids.len() == 8, "three edges, three workers, a bus and a database: {pids:?}");
    assert!(pids.iter().all(|(_, pid)| is_running(*pid)));
    let status = launcher.stop(Signal::TERM).await?;
    ensure!(status.code() == Some(0), "the launcher ended with {status}");
    for (name, pid) in pids {
        ensure!(!is_running(pid), "{name} outlived the launcher");
    }
    Ok(())
}

#[tokio::test]
async fn a_launcher_that_is_killed_leaves_no_process() -> anyhow::Result<()> {
    let launcher = Launcher::start().await?;
    let pids = launcher.pids()?;
    ensure!(pids.len() == 8, "three edges, three workers, a bus and a database: {pids:?}");
    assert!(pids.iter().all(|(_, pid)| is_running(*pid)));
    launcher.stop(Signal::KILL).await?;
    for (name, pid) in pids {
        eventually(&format!("{name} is gone"), || async { !is_running(pid) }).await?;
    }
    Ok(())
}

/// `deploy/local/up`, running.
struct Launcher {
    process: Child,
    first_port: u16,
    data: PathBuf,
    /// From its own first line, with everything built, until it said that it was ready.
    took: Duration,
    _dir: TempDir,
}

impl Launcher {
    /// Starts it and waits until it says that it is ready.
    async fn start() -> anyhow::Result<Self> {
        let dir = scratch::dir("walk-")?;
        let data = dir.path().join("data");
        let first_port = three_ports()?;
        let mut command = Command::new(top().join("deploy/local/up"));
        command.args(["--port", &first_port.to_string(), "--data"]).arg(&data);
        command
            .current_dir(top())
            .env_clear()
            .envs(env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_the_user)));
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = process.stdout.take().context("it is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut began = None;
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                // Before this it is `up` that speaks, of what it installs.
                if line.starts_with(FIRST_LINE) {
                    began = Some(SystemClock.monotonic());
                }
                if line.starts_with("ready") {
                    return Ok(line);
                }
            }
            anyhow::bail!("the launcher ended without a word of being ready")
        };
        let ready = timeout(TO_GET_READY, ready).await.context("the launcher is not ready")??;
        let began = began.context("the launcher's first line is another one")?;
        let took = SystemClock.monotonic().since(began);
        for number in 0..3 {
            let url = format!("http://127.0.0.1:{}", first_port + number);
            ensure!(ready.contains(&url), "{url} is not in {ready:?}");
        }
        // Nobody reads what it says from now on; that must not disturb it.
        Ok(Self { process, first_port, data, took, _dir: dir })
    }

    /// The text with the ports and the directory of this launcher.
    fn adapt(&self, text: &str) -> String {
        let data = format!("{}/", self.data.display());
        let ports = PORTS.iter().zip(self.first_port..);
        ports.fold(text.replace(DATA, &data), |text, (written, port)| {
            text.replace(&written.to_string(), &port.to_string())
        })
    }

    fn pids(&self) -> anyhow::Result<Vec<(String, i32)>> {
        let pids: Value = serde_json::from_slice(&fs::read(self.data.join("pids.json"))?)?;
        let pids = pids.as_object().context("an object")?;
        let pid = |(name, pid): (&String, &Value)| {
            let pid = pid.as_i64().and_then(|pid| i32::try_from(pid).ok());
            Ok((name.clone(), pid.context("a process id")?))
        };
        pids.iter().map(pid).collect()
    }

    async fn stop(mut self, signal: Signal) -> anyhow::Result<ExitStatus> {
        let pid = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        kill_process(pid.context("it is running")?, signal)?;
        timeout(TO_STOP, self.process.wait())
            .await
            .context("the launcher does not end")?
            .map_err(Into::into)
    }
}

/// What a user's shell would have. Cargo sets more for a test, which makes it build anew; and what
/// configures services is for none of these.
fn is_of_the_user(name: &str) -> bool {
    let ours = ["BREAKGLASS_", "OTEL_", "DATABASE_URL"];
    let of_a_test = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_PRIMARY_",
        "LD_LIBRARY_PATH",
    ];
    name != "CARGO" && !ours.iter().chain(&of_a_test).any(|prefix| name.starts_with(prefix))
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it lies in the repository").to_owned()
}

fn three_ports() -> anyhow::Result<u16> {
    let base = || 10_000 + u16::from_le_bytes(random::bytes()) % 6_000;
    let found = (0..256).map(|_| base()).find(|base| ports::consecutive(*base, 3).is_ok());
    found.context("three free ports in a row")
}

/// Whether a process lives; one that only waits to be noticed by its parent does not.
fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, after_name)| after_name.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// The `sh` blocks under a heading.
fn blocks(readme: &str, heading: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    let walk = readme.lines().skip_while(|line| *line != heading).skip(1);
    // In a block, `##` would be a comment.
    for line in walk {
        match (line, &mut block) {
            ("```sh", None) => block = Some(String::new()),
            ("```", Some(_)) => blocks.extend(block.take()),
            (line, Some(block)) => {
                block.push_str(line);
                block.push('\n');
            }
            (line, None) if line.starts_with("## ") => break,
            (_, None) => {}
        }
    }
    blocks
}

/// Commands up to the lines after `#>`, and again.
fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        let printed = line.strip_prefix("#>").map(|text| text.strip_prefix(' ').unwrap_or(text));
        match (printed, steps.last_mut()) {
            (Some(text), Some(step)) => step.printed.push(text.to_owned()),
            (None, Some(step)) if step.printed.is_empty() => {
                step.commands.push_str(line);
                step.commands.push('\n');
            }
            (Some(text), None) => panic!("no command prints {text:?}"),
            (None, _) => steps.push(Step { commands: format!("{line}\n"), printed: Vec::new() }),
        }
    }
    steps
}

/// Runs all steps in one shell; what each printed, errors included.
async fn walk(steps: &[&Step]) -> anyhow::Result<Vec<Vec<String>>> {
    let end = format!("end-of-step-{:016x}", u64::from_le_bytes(random::bytes()));
    let mut script = String::from("exec 2>&1\n");
    for step in steps {
        script.push_str(&step.commands);
        script.push_str("printf '\\n%s\\n' ");
        script.push_str(&end);
        script.push('\n');
    }
    let dir = scratch::dir("script-")?;
    let path = dir.path().join("walk.sh");
    fs::write(&path, script)?;
    let mut bash = Command::new("bash");
    bash.arg(&path).current_dir(top()).stdin(Stdio::null()).kill_on_drop(true);
    // As `cargo install` would have put it there, and at home nowhere yet.
    let mut path = program("breakglass")?.parent().context("a folder")?.as_os_str().to_owned();
    path.push(":");
    path.push(env::var_os("PATH").context("a PATH")?);
    bash.env("PATH", path).env("XDG_CONFIG_HOME", dir.path());
    let output = timeout(TO_WALK, bash.output()).await.context("the walk takes too long")??;
    let text = String::from_utf8(output.stdout)?;
    let mut printed: Vec<_> = text.split(&format!("\n{end}\n")).map(lines).collect();
    let rest = printed.pop().context("splitting gives at least one part")?;
    ensure!(printed.len() == steps.len() && rest.is_empty(), "the walk broke off:\n{text}");
    Ok(printed)
}

/// Lines without what people cannot see at their ends.
fn lines(text: &str) -> Vec<String> {
    text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Whether the lines are as written, with `…` for anything within a line.
fn fit(written: &[String], printed: &[String]) -> bool {
    let fits =
        |(written, printed): (&String, &String)| line_fits(written.trim_end(), printed.trim_end());
    written.len() == printed.len() && written.iter().zip(printed).all(fits)
}

fn line_fits(written: &str, printed: &str) -> bool {
    let Some((before, rest)) = written.split_once('…') else { return written == printed };
    let Some(printed) = printed.strip_prefix(before) else { return false };
    let ends = printed.char_indices().map(|(at, _)| at).chain([printed.len()]);
    ends.into_iter().any(|at| line_fits(rest, &printed[at..]))
}

#[test]
fn blocks_are_those_of_the_walk() {
    let heading = HEADINGS[0];
    let readme = format!(
        "# A\n```sh\nnot this\n```\n{heading}\ntext\n```sh\n## x\na\n```\n```\nnor this\n```\n```sh\nb\n```\n## Next\n```sh\nnot this\n```\n"
    );
    assert_eq!(blocks(&readme, heading), ["## x\na\n", "b\n"]);
}

#[test]
fn a_step_is_commands_and_what_they_print() {
    let step = |commands: &str, printed: &[&str]| Step {
        commands: commands.to_owned(),
        printed: printed.iter().map(|&line| line.to_owned()).collect(),
    };
    let found = steps("f() {\n    x\n}\nf\n#> 1\n#>\n#>  2\ng\nh\n");
    assert_eq!(found, [step("f() {\n    x\n}\nf\n", &["1", "", " 2"]), step("g\nh\n", &[])]);
}

#[test]
fn lines_fit_to_the_letter_but_for_ellipses_and_blanks_at_the_end() {
    for (written, printed) in [
        ("a", "a"),
        ("a ", "a"),
        ("", ""),
        ("…", ""),
        ("a…c", "abbc"),
        ("…b…", "abc"),
        ("…a", "aaa"),
    ] {
        assert!(fit(&[written.to_owned()], &[printed.to_owned()]), "{written:?} {printed:?}");
    }
    for (written, printed) in
        [("a", "b"), ("a", " a"), ("a…", "ba"), ("…c", "cb"), ("a…b…c", "acb"), ("", "a")]
    {
        assert!(!fit(&[written.to_owned()], &[printed.to_owned()]), "{written:?} {printed:?}");
    }
    assert!(!fit(&["a".to_owned()], &[]) && !fit(&[], &["a".to_owned()]));
}
