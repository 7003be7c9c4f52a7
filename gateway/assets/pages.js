// What pages do where a script runs: forms in dialogs, timers, and following what happens. Every
// page works without it.
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Forms that a link leads to are shown in a dialog.
  const dialog = $("#dialog");
  let opener = null;
  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("a, button");
    if (!target || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    if (target.matches("a[data-dialog]") && dialog?.showModal) {
      event.preventDefault();
      opener = target.id;
      htmx.ajax("GET", target.href, { target: "#dialog-body", select: "#task", swap: "innerHTML" });
    } else if (target.matches("[data-close]") && dialog?.open) {
      event.preventDefault();
      dialog.close();
    } else if (target.matches("[data-copy]")) {
      copy(target);
    } else if (target.matches("[data-print]")) {
      window.print();
    }
  });
  dialog?.addEventListener("close", () => {
    $("#dialog-body").replaceChildren();
    // The element may be another one by now, under the same name.
    (document.getElementById(opener) ?? $("#main"))?.focus();
  });
  // Codes that are shown once are put away on purpose.
  const keeps = () => Boolean($(".codes", dialog));
  dialog?.addEventListener("cancel", (event) => { if (keeps()) event.preventDefault(); });
  // Only a click that begins and ends beside the dialog closes it.
  let beside = false;
  dialog?.addEventListener("pointerdown", (event) => { beside = event.target === dialog; });
  dialog?.addEventListener("click", (event) => {
    if (beside && event.target === dialog && !keeps()) dialog.close();
  });

  async function copy(button) {
    const text = $(button.dataset.copy)?.innerText.trim();
    try {
      await navigator.clipboard.writeText(text ?? "");
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copying is not allowed here: select the text";
    }
  }

  document.addEventListener("htmx:afterSwap", (event) => {
    const swapped = event.detail.target;
    if (swapped?.id === "dialog-body" && !dialog.open && swapped.firstElementChild) dialog.showModal();
    const task = swapped?.id === "dialog-body" || event.detail.elt?.id === "task";
    if (task) {
      const root = dialog?.open ? dialog : document;
      ($("[aria-invalid]", root) ?? $("[role=alert]", root) ?? $("[autofocus]", root))?.focus();
    }
    begin();
  });
  // What is live stays while the server fails, and goes when one may no longer see it.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr } = event.detail;
    if (!["live", "elevation"].includes(target?.id) || xhr.status < 400) return;
    event.detail.shouldSwap = false;
    if (xhr.status < 500) location.reload();
    else setTimeout(refresh, 1000);
  });
  // What explains why there is no form any more is shown in its place.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, requestConfig } = event.detail;
    const wanted = requestConfig?.elt?.getAttribute?.("hx-select");
    if (xhr.status >= 400 && wanted && !xhr.responseText.includes(`id="${wanted.slice(1)}"`)) event.detail.selectOverride = "#task";
  });
  // A server that cannot be reached, or is too slow, is said beside the form.
  for (const kind of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(kind, (event) => {
      if (["live", "elevation"].includes(event.detail.target?.id)) setTimeout(refresh, 1000);
      const task = event.detail.elt?.closest?.("#task");
      if (!task) return;
      const alert = $("[role=alert]", task) ?? Object.assign(document.createElement("p"), { className: "alert" });
      alert.setAttribute("role", "alert");
      alert.textContent = "The server cannot be reached. Look whether it took effect, then try again.";
      task.querySelector("form").before(alert);
    });
  }

  // Timers: the server says how many seconds are left, the browser counts them down.
  const span = (s) => {
    const d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60, r = s % 60;
    if (d) return h ? `${d}d ${h}h` : `${d}d`;
    if (h) return m ? `${h}h ${m}m` : `${h}h`;
    if (m) return m < 5 && r ? `${m}m ${r}s` : `${m}m`;
    return `${r}s`;
  };
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  function begin() {
    for (const element of all("[data-copy][hidden], [data-print][hidden]")) element.hidden = false;
    for (const element of all("[data-left]")) {
      const left = element.getAttribute("data-left");
      // The same number again is the same answer.
      if (element.dataset.since === left) continue;
      element.dataset.since = left;
      element.end = Date.now() + 1000 * Number(left);
    }
    for (const element of all("time[data-clock]")) {
      const at = new Date(element.dateTime);
      const far = Math.abs(at - Date.now()) > 64800000;
      element.title = element.title || element.textContent;
      element.textContent = far ? full.format(at) : clock.format(at);
    }
    tick();
  }
  function tick() {
    for (const element of all("[data-left]")) {
      const left = Math.max(0, Math.ceil((element.end - Date.now()) / 1000));
      const text = left ? `${span(left)} remaining` : "over";
      if (element.textContent !== text) element.textContent = text;
      element.classList.toggle("soon", left <= 120);
      if (!left && element.dataset.over !== element.dataset.since) {
        element.dataset.over = element.dataset.since;
        setTimeout(refresh, 1000);
      }
    }
  }
  setInterval(tick, 1000);

  // Live: what has changed is fetched again.
  let waiting = null, fetched = 0, took = 0;
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target?.id === "live") fetched = Date.now();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.target?.id === "live") took = Date.now() - fetched;
  });
  function refresh() {
    if (waiting) return;
    // Not all pages at the same moment, none more often than it can be read, and what is costly to
    // make more rarely.
    const pause = Math.max(50 + 150 * Math.random(), fetched + Math.max(700, Math.min(3 * took, 10_000)) - Date.now());
    waiting = setTimeout(() => {
      waiting = null;
      fetched = Date.now();
      const live = $("#live");
      if (live) htmx.trigger(live, "refresh");
      else if ($("#elevation")) htmx.ajax("GET", location.href, { source: "#elevation", target: "#elevation", select: "#elevation", swap: "outerHTML" });
    }, pause);
  }
  const leave = (why) => { location.assign(`/login?why=${encodeURIComponent(why)}&next=${encodeURIComponent(location.pathname + location.search)}`); };
  // What is sent just now may be what ended the session, and its answer brings the next one.
  let sent = 0;
  document.addEventListener("htmx:beforeRequest", () => { sent += 1; });
  document.addEventListener("htmx:afterRequest", () => { sent -= 1; });
  document.addEventListener("submit", (event) => { if (event.target.hasAttribute("hx-post")) return; sent += 1; setTimeout(() => { sent -= 1; }, 5000); }, true);
  async function signedOut(why) {
    for (let waits = 0; sent > 0 && waits < 100; waits += 1) await new Promise((done) => setTimeout(done, 50));
    const me = await fetch("/v1/me", { headers: { "HX-Trigger": "live" } }).catch(() => null);
    if (me?.ok) follow();
    else leave(why);
  }
  // What happened after the page was made and before the stream began is missed, too.
  let missed = true;
  function stale(is) {
    const liveness = $("#liveness");
    if (!liveness) return;
    if (is) missed = true;
    liveness.hidden = !is;
    if (!is && missed) {
      missed = false;
      refresh();
    }
  }
  let events = null;
  function follow() {
    events?.close();
    // Nobody looks. A browser has few connections for one server over HTTP/1.1, and a stream keeps one.
    if (document.hidden) return;
    events = new EventSource("/v1/events");
    events.addEventListener("hello", (event) => stale(JSON.parse(event.data).live === false));
    events.addEventListener("change", (event) => {
      const topics = $("#live")?.dataset.topics?.split(" ") ?? [];
      const kind = JSON.parse(event.data).kind ?? "";
      const mine = topics.some((topic) => topic === "*" || kind === topic || kind.startsWith(`${topic}.`) || kind.startsWith(`${topic}-`));
      if (mine || kind.startsWith("grant")) refresh();
    });
    events.addEventListener("rights", refresh);
    events.addEventListener("reset", refresh);
    events.addEventListener("stale", () => stale(true));
    events.addEventListener("live", () => { missed = true; stale(false); });
    events.addEventListener("signed-out", (event) => {
      events.close();
      signedOut(JSON.parse(event.data).reason);
    });
    events.onerror = async (event) => {
      if (event.target !== events) return;
      stale(true);
      if (events.readyState !== EventSource.CLOSED) return;
      // Refused, not interrupted: the browser does not try again by itself.
      try {
        // Nobody asked for this: it is no use of the session.
        const me = await fetch("/v1/me", { headers: { "HX-Trigger": "live" } });
        if (me.status === 401) return signedOut("ended");
        // Nothing is left to do but to set up a second factor.
        if (me.ok && !(await me.json()).permissions.length) return location.assign("/security/mfa/set-up");
      } catch { /* out of reach: try again */ }
      setTimeout(follow, 2000);
    };
  }
  addEventListener("pagehide", () => events?.close());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  // A link that was mailed holds its token where browsers send it to nobody.
  const token = $("[data-from-link]");
  if (token && location.hash.length > 1) {
    $("input", token).value = location.hash.slice(1);
    token.hidden = true;
    history.replaceState(null, "", location.pathname);
  }

  begin();
  if (document.body.hasAttribute("data-signed-in")) {
    follow();
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) missed = true;
      follow();
    });
  }
  // Something that is polled says so itself.
  const every = Number($("#live")?.dataset.every);
  if (every) setInterval(() => { if (!document.hidden) refresh(); }, every);
})();
