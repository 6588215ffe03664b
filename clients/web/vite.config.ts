import { createHash } from "node:crypto";
import { defineConfig, type Plugin } from "vite";
import solid from "vite-plugin-solid";

/** Tells the service worker which files make up the client, so that it keeps them all, and a version that changes with them. */
function precache(): Plugin {
    return {
        name: "kith-precache",
        generateBundle(_, bundle) {
            const worker = bundle["sw.js"];
            if (!worker || worker.type !== "chunk") return;
            const files = Object.keys(bundle).filter((name) => name !== "sw.js" && !name.endsWith(".map")).sort();
            const list = ["./", ...files.filter((name) => name !== "index.html").map((name) => `./${name}`), "./icon.svg", "./manifest.webmanifest"];
            const hash = createHash("sha256");
            for (const name of files) {
                const file = bundle[name]!;
                hash.update(name).update(file.type === "chunk" ? file.code : file.source);
            }
            worker.code = worker.code
                .replace(/["'`]__PRECACHE__["'`]/, () => JSON.stringify(list))
                .replace(/__VERSION__/, hash.digest("hex").slice(0, 16));
        },
    };
}

export default defineConfig({
    base: "./",
    plugins: [solid(), precache()],
    build: {
        outDir: process.env.KITH_WEB_OUT ?? "dist",
        emptyOutDir: true,
        target: "es2022",
        // Scripts, styles and pictures are files: the policy allows no data: but for pictures, and no script in the page.
        assetsInlineLimit: 0,
        modulePreload: { polyfill: false },
        chunkSizeWarningLimit: 4000,
        rollupOptions: {
            input: { index: "index.html", sw: "app/sw.ts" },
            output: { entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js") },
        },
    },
    optimizeDeps: { exclude: ["@matrix-org/matrix-sdk-crypto-wasm"] },
});
