/** Gives a file to the browser to save; it is never opened here. */
export function saveBlob(blob: Blob, name: string): void {
    const url = URL.createObjectURL(new Blob([blob], { type: "application/octet-stream" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
