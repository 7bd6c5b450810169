// Search of a site that is opened from a folder. Browsers start no worker from file://, so the
// worker's script runs in a hidden frame. The name of this file keeps MkDocs' plugin `offline` from
// loading a script of the same purpose from another server.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc =
        "<script>postMessage = (data) => frameElement.answer(data)</script>" +
        `<script src="${new URL(url, document.baseURI)}"></script>`;
      frame.answer = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.loaded = new Promise((done) => (frame.onload = () => done(frame.contentWindow)));
      document.body.append(frame);
    }

    async postMessage(data) {
      (await this.loaded).dispatchEvent(new MessageEvent("message", { data }));
    }
  };
}
