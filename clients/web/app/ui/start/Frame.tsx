import type { JSX } from "solid-js";
import { Logo } from "../Logo.tsx";

/** The page around everything before somebody is signed in. */
export function Frame(props: { title: string; lead?: string; children: JSX.Element }) {
    return (
        <div class="start">
            <div class="start-art" aria-hidden="true">
                <svg viewBox="0 0 400 400">
                    <g class="art-lines">
                        <path d="M80 210 210 110 330 180 290 310 150 320zM210 110 150 320M80 210 290 310M330 180 150 320" />
                    </g>
                    <circle cx="80" cy="210" r="22" class="art-a" />
                    <circle cx="210" cy="110" r="34" class="art-b" />
                    <circle cx="330" cy="180" r="18" class="art-c" />
                    <circle cx="290" cy="310" r="26" class="art-a" />
                    <circle cx="150" cy="320" r="14" class="art-b" />
                </svg>
            </div>
            <main class="start-main">
                <header class="start-head">
                    <Logo />
                    <span class="wordmark">kith</span>
                </header>
                <h1 tabindex="-1">{props.title}</h1>
                {props.lead && <p class="lead">{props.lead}</p>}
                {props.children}
            </main>
        </div>
    );
}
