/** Records a voice message. */
import { createSignal, onCleanup, onMount, Show } from "solid-js";
import { t } from "../../i18n/index.ts";
import { duration } from "../../lib/dates.ts";
import { useApp } from "../../model/app.ts";
import { sendVoice, type Context } from "../../model/send.ts";
import { attempt, IconButton, say } from "../parts.tsx";
import { useRoom } from "./context.ts";

const TYPES = ["audio/ogg;codecs=opus", "audio/webm;codecs=opus", "audio/mp4"];
const LONGEST_MS = 15 * 60_000;

export function VoiceRecorder(props: { context: Context; onClose: () => void }) {
    const { client, media } = useApp();
    const { room } = useRoom();
    const [ms, setMs] = createSignal(0);
    const [running, setRunning] = createSignal(false);
    const chunks: Blob[] = [];
    const waveform: number[] = [];
    let stream: MediaStream | undefined;
    let recorder: MediaRecorder | undefined;
    let timer: ReturnType<typeof setInterval> | undefined;
    let sound: AudioContext | undefined;

    onMount(async () => {
        try {
            stream = await navigator.mediaDevices.getUserMedia({ audio: true });
        } catch {
            say(t("voice.noMicrophone"), "error");
            return props.onClose();
        }
        const type = TYPES.find((each) => MediaRecorder.isTypeSupported(each));
        recorder = new MediaRecorder(stream, { ...(type ? { mimeType: type } : {}), audioBitsPerSecond: 24_000 });
        recorder.ondataavailable = ({ data }) => chunks.push(data);
        recorder.start(500);
        sound = new AudioContext();
        const analyser = sound.createAnalyser();
        sound.createMediaStreamSource(stream).connect(analyser);
        const samples = new Uint8Array(analyser.fftSize);
        const begin = Date.now();
        setRunning(true);
        timer = setInterval(() => {
            setMs(Date.now() - begin);
            analyser.getByteTimeDomainData(samples);
            const loudest = samples.reduce((max, sample) => Math.max(max, Math.abs(sample - 128)), 0);
            waveform.push(Math.min(1024, Math.round((loudest / 128) * 1024)));
            if (ms() > LONGEST_MS) finish();
        }, 100);
    });

    function end(): void {
        clearInterval(timer);
        stream?.getTracks().forEach((track) => track.stop());
        void sound?.close();
        sound = undefined;
    }

    function finish(): void {
        if (!recorder || recorder.state === "inactive") return;
        const length = ms();
        recorder.onstop = () => {
            const blob = new Blob(chunks, { type: recorder!.mimeType.split(";")[0] || "audio/webm" });
            const step = Math.max(1, Math.ceil(waveform.length / 100));
            attempt(sendVoice(client, media, room, blob, length, waveform.filter((_, i) => i % step === 0), props.context));
            props.onClose();
        };
        recorder.stop();
        end();
    }

    onCleanup(end);
    return (
        <div class="recorder">
            <IconButton icon="trash" label={t("voice.discard")} onClick={() => props.onClose()} />
            <span class="recording" role="status"><span class="recording-dot" />{t("voice.recording")} <Show when={running()}><time>{duration(ms())}</time></Show></span>
            <IconButton icon="send" label={t("composer.send")} class="filled" disabled={!running()} onClick={finish} />
        </div>
    );
}
