//! Comparing emoji with another device, one's own or somebody else's. One at a time; each step can be left.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt as _;
use matrix_sdk::{
    encryption::verification::{
        CancelInfo, SasState, SasVerification, Verification as Kind, VerificationRequest, VerificationRequestState,
    },
    ruma::{
        UserId,
        events::{
            key::verification::{VerificationMethod, request::ToDeviceKeyVerificationRequestEvent},
            room::message::{MessageType, OriginalSyncRoomMessageEvent},
        },
    },
};

use super::{Worker, user_id};
use crate::{
    model::{Step, Verification},
    protocol::News,
    text,
};

/// How long the side that accepted waits for the other to begin before it does so itself.
const COURTESY: Duration = Duration::from_secs(3);

/// The verification under way.
pub struct Flow {
    request: VerificationRequest,
    sas: Option<SasVerification>,
    follows: tokio::task::JoinHandle<()>,
}

impl Worker {
    /// Hears of requests by others, sent to this device or in a room.
    pub(super) fn listen_for_verifications(self: Arc<Self>) {
        let worker = self.clone();
        self.client.add_event_handler(move |event: ToDeviceKeyVerificationRequestEvent| {
            let worker = worker.clone();
            async move { worker.was_asked(&event.sender, event.content.transaction_id.as_str()).await }
        });
        let worker = self.clone();
        self.client.add_event_handler(move |event: OriginalSyncRoomMessageEvent| {
            let worker = worker.clone();
            async move {
                if matches!(event.content.msgtype, MessageType::VerificationRequest(_)) && event.sender != worker.me {
                    worker.was_asked(&event.sender, event.event_id.as_str()).await;
                }
            }
        });
    }

    async fn was_asked(self: &Arc<Self>, sender: &UserId, flow: &str) {
        let Some(request) = self.client.encryption().get_verification_request(sender, flow).await else { return };
        if request.we_started() || !matches!(request.state(), VerificationRequestState::Requested { .. }) {
            return;
        }
        // Whoever asks while another is under way is heard after it, if they ask again.
        let busy = self.verifying.lock().await.as_ref().is_some_and(|flow| !is_over(&flow.request));
        if !busy {
            self.tell_step(&request, Step::Asked);
            self.follow(request).await;
        }
    }

    /// Asks one's own other devices, or somebody else.
    pub(super) async fn verify(self: &Arc<Self>, user: Option<String>) -> Result<()> {
        let user = match user {
            Some(user) => user_id(&user)?,
            None => self.me.clone(),
        };
        let methods = vec![VerificationMethod::SasV1];
        let encryption = self.client.encryption();
        let request = match encryption.request_user_identity(&user).await? {
            Some(identity) => identity.request_verification_with_methods(methods).await?,
            None => {
                let devices = encryption.get_user_devices(&user).await?;
                let mut others = devices.devices().filter(|device| Some(device.device_id()) != self.client.device_id());
                let device = others.next().context("they have no device that can be verified")?;
                device.request_verification_with_methods(methods).await?
            }
        };
        self.tell_step(&request, Step::Waiting("waiting until the other side accepts"));
        self.follow(request).await;
        Ok(())
    }

    async fn follow(self: &Arc<Self>, request: VerificationRequest) {
        let mut place = self.verifying.lock().await;
        if let Some(before) = place.take() {
            before.follows.abort();
            if !is_over(&before.request) {
                before.request.cancel().await.ok();
            }
        }
        let follows = tokio::spawn(self.clone().follow_request(request.clone()));
        *place = Some(Flow { request, sas: None, follows });
    }

    async fn follow_request(self: Arc<Self>, request: VerificationRequest) {
        let mut changes = std::pin::pin!(request.changes());
        let mut state = request.state();
        loop {
            match state {
                VerificationRequestState::Ready { .. } => {
                    self.tell_step(&request, Step::Waiting("waiting for the other side"));
                    if request.we_started() {
                        if let Err(error) = request.start_sas().await {
                            self.tell(News::Problem(text::line(&error.to_string())));
                        }
                    } else {
                        let (worker, request) = (self.clone(), request.clone());
                        tokio::spawn(async move {
                            tokio::time::sleep(COURTESY).await;
                            if matches!(request.state(), VerificationRequestState::Ready { .. })
                                && let Err(error) = request.start_sas().await
                            {
                                worker.tell(News::Problem(text::line(&error.to_string())));
                            }
                        });
                    }
                }
                VerificationRequestState::Transitioned { verification: Kind::SasV1(sas) } => {
                    if let Some(flow) = self.verifying.lock().await.as_mut() {
                        flow.sas = Some(sas.clone());
                    }
                    return self.follow_sas(request.clone(), sas).await;
                }
                VerificationRequestState::Transitioned { .. } => {
                    request.cancel().await.ok();
                    return self.tell_step(
                        &request,
                        Step::Over("the other side wants a way that a terminal has not".to_owned()),
                    );
                }
                VerificationRequestState::Done => return self.done(&request),
                VerificationRequestState::Cancelled(info) => return self.tell_step(&request, over(&info)),
                VerificationRequestState::Created { .. } | VerificationRequestState::Requested { .. } => {}
            }
            match changes.next().await {
                Some(next) => state = next,
                None => return,
            }
        }
    }

    async fn follow_sas(self: &Arc<Self>, request: VerificationRequest, sas: SasVerification) {
        let mut changes = std::pin::pin!(sas.changes());
        let mut state = sas.state();
        loop {
            match state {
                SasState::Started { .. } if !sas.we_started() => {
                    if let Err(error) = sas.accept().await {
                        self.tell(News::Problem(text::line(&error.to_string())));
                    }
                }
                SasState::Created { .. } | SasState::Started { .. } | SasState::Accepted { .. } => {}
                SasState::KeysExchanged { emojis, decimals } => {
                    let signs = match emojis {
                        Some(emojis) => {
                            let signs = emojis.emojis.iter();
                            signs.map(|emoji| (emoji.symbol.to_owned(), emoji.description.to_owned())).collect()
                        }
                        None => {
                            [decimals.0, decimals.1, decimals.2].map(|part| (part.to_string(), String::new())).to_vec()
                        }
                    };
                    self.tell_step(&request, Step::Compare(signs));
                }
                SasState::Confirmed => {
                    self.tell_step(&request, Step::Waiting("waiting until the other side confirms"));
                }
                SasState::Done { .. } => return self.done(&request),
                SasState::Cancelled(info) => return self.tell_step(&request, over(&info)),
            }
            match changes.next().await {
                Some(next) => state = next,
                None => return,
            }
        }
    }

    fn done(&self, request: &VerificationRequest) {
        self.tell_step(request, Step::Done);
        self.tell_trust();
    }

    fn tell_step(&self, request: &VerificationRequest, step: Step) {
        self.tell(News::Verification(Verification {
            flow: request.flow_id().to_owned(),
            who: text::line(request.other_user_id().as_str()),
            own: request.is_self_verification(),
            step,
        }));
    }

    pub(super) async fn accept_verification(&self) -> Result<()> {
        let place = self.verifying.lock().await;
        let flow = place.as_ref().context("nobody asks any more")?;
        flow.request.accept_with_methods(vec![VerificationMethod::SasV1]).await?;
        Ok(())
    }

    async fn sas(&self) -> Result<SasVerification> {
        let place = self.verifying.lock().await;
        match place.as_ref().and_then(|flow| flow.sas.clone()) {
            Some(sas) => Ok(sas),
            None => bail!("there is nothing to compare yet"),
        }
    }

    pub(super) async fn confirm_verification(&self) -> Result<()> {
        self.sas().await?.confirm().await?;
        Ok(())
    }

    pub(super) async fn deny_verification(&self) -> Result<()> {
        self.sas().await?.mismatch().await?;
        Ok(())
    }

    pub(super) async fn cancel_verification(&self) -> Result<()> {
        let (request, sas) = match self.verifying.lock().await.as_ref() {
            Some(flow) => (flow.request.clone(), flow.sas.clone()),
            None => return Ok(()),
        };
        // Whatever the other side hears of it: here it is over.
        self.tell_step(&request, Step::Over("cancelled".to_owned()));
        match sas {
            Some(sas) if !sas.is_done() && !sas.is_cancelled() => sas.cancel().await?,
            _ if !is_over(&request) => request.cancel().await?,
            _ => {}
        }
        Ok(())
    }
}

fn is_over(request: &VerificationRequest) -> bool {
    match request.state() {
        VerificationRequestState::Done | VerificationRequestState::Cancelled(_) => true,
        VerificationRequestState::Transitioned { verification } => {
            verification.is_done() || verification.is_cancelled()
        }
        _ => false,
    }
}

fn over(info: &CancelInfo) -> Step {
    Step::Over(match info.cancelled_by_us() {
        true => "cancelled".to_owned(),
        false => format!("the other side ended it ({})", text::line(info.reason())),
    })
}
