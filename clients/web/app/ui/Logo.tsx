/** Three who belong together. */
export function Logo(props: { class?: string }) {
    return (
        <svg class={`logo ${props.class ?? ""}`} viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="9" class="logo-ground" />
            <path d="M10 16 22 9M10 16l12 7" class="logo-line" />
            <circle cx="10" cy="16" r="4" class="logo-dot" />
            <circle cx="22" cy="9" r="3" class="logo-dot" />
            <circle cx="22" cy="23" r="3" class="logo-warm" />
        </svg>
    );
}
