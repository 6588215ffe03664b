import "@fontsource-variable/figtree/wght.css";
import "./styles/index.css";
import { render } from "solid-js/web";
import { applyAppearance } from "./ui/appearance.ts";
import { Root } from "./ui/Root.tsx";

applyAppearance();
render(() => <Root />, document.getElementById("app")!);

if ("serviceWorker" in navigator && import.meta.env.PROD) {
    navigator.serviceWorker.register("./sw.js").catch(() => {
        // Plain HTTP on another device: everything works but for opening without a network.
    });
    navigator.serviceWorker.addEventListener("message", ({ data }: MessageEvent<{ open?: string }>) => {
        if (data.open) location.hash = `#/room/${encodeURIComponent(data.open)}`;
    });
}
