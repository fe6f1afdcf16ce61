// Follows the log of a run that has not ended. Without this script the page
// reloads itself.
"use strict";
(() => {
  const log = document.getElementById("log");
  const live = document.getElementById("live");
  const address = new URL(log.dataset.events, location.href);

  // A log that somebody scrolled up in stays where it is.
  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const toEnd = () => { log.scrollTop = log.scrollHeight; };

  const connect = () => {
    const source = new EventSource(address);
    source.onopen = () => { live.textContent = "live"; };
    source.addEventListener("log", (e) => {
      const follow = atEnd();
      log.append(JSON.parse(e.data).text);
      address.searchParams.set("from", e.lastEventId);
      if (follow) toEnd();
    });
    source.addEventListener("state", (e) => {
      const now = JSON.parse(e.data);
      const badge = document.querySelector("#state .state");
      badge.className = "state " + now.state;
      badge.textContent = now.words;
      document.getElementById("step").textContent = now.step;
    });
    source.addEventListener("end", () => {
      source.close();
      location.reload(); // with the plan and how it ended
    });
    source.onerror = () => {
      live.textContent = "connection lost, trying again";
      // The browser tries again by itself, but not after an answer that is no
      // stream, as a proxy gives while the server restarts.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    };
  };
  toEnd();
  connect();
})();
