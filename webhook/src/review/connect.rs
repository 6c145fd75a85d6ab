//! exec, attach, port-forward and proxy: nobody gets a shell onto mounted data. The request names the pod but doesn't hold
//! it, so the pod is looked up live; one that can't be found is refused.

use serde::Deserialize;

use super::envelope::Request;
use super::parse::parse;
use super::patch::Patch;
use super::text::{Text, list};
use super::{Fact, Question, Reason, Stop, View, deny, object};

#[derive(Debug, Deserialize)]
struct ExecOptions<'a> {
    #[serde(default)]
    stdin: bool,
    #[serde(default)]
    tty: bool,
    #[serde(borrow, default)]
    container: Text<'a>,
    #[serde(borrow, default, deserialize_with = "list")]
    command: Vec<Text<'a>>,
}

/// Containers whose image is Argo's own, so that a bare `argoexec` is Argo's too.
const ARGOS_OWN: [&str; 2] = ["wait", "supervisor"];

/// Decides a connection into a pod.
///
/// # Errors
/// A denial or a question.
pub fn review(request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    if is_argos_signal(request, view)? {
        return Ok(Patch::new());
    }
    let question = Question::Pod {
        namespace: request.namespace().to_owned(),
        name: request.name().to_owned(),
    };
    match view.fact(question)? {
        Fact::Pod(Some(false)) => Ok(Patch::new()),
        _ => deny(
            Reason::ConnectDatasetPod,
            format!(
                "pod {} has a leased dataset mounted, or does not exist; nobody connects to such a pod, read its logs instead",
                request.name()
            ),
        ),
    }
}

/// The controller signals containers by executing `argoexec kill <signal> <pid>` in them (`workflow/signal/signal.go`): in its
/// own as the image has it, in users' from Argo's own volume, which no user mount may cover.
fn is_argos_signal(request: &Request<'_>, view: &View<'_>) -> Result<bool, Stop> {
    if *request.user_info.username != *view.identities.controller
        || request.sub_resource.as_deref() != Some("exec")
    {
        return Ok(false);
    }
    let options: ExecOptions<'_> = parse(object(request)?, "the exec request")?;
    let number =
        |text: &Text<'_>| !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
    Ok(match options.command.as_slice() {
        [program, kill, signal, process] => {
            let of_argo = *program == "/var/run/argo/argoexec"
                || (*program == "argoexec" && ARGOS_OWN.contains(&&*options.container));
            !options.stdin && !options.tty && of_argo && *kill == "kill" && number(signal) && *process == "1"
        }
        _ => false,
    })
}
