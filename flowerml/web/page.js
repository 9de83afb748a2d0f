// A picture that is pasted anywhere, or dropped on one that is shown, goes the way of one that is chosen.
(() => {
  const give = (list) => {
    const input = [...document.querySelectorAll(".picture input[type=file]")].find((one) => one.closest(".picture").offsetParent);
    const picture = [...(list || [])].find((file) => file.type.startsWith("image/"));
    if (!input || !picture) return false;
    const one = new DataTransfer();
    one.items.add(picture);
    input.files = one.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
    return true;
  };
  document.addEventListener("paste", (event) => give(event.clipboardData?.files) && event.preventDefault());
  const shown = (event) => event.target.closest?.(".picture .image-frame");
  document.addEventListener("dragover", (event) => shown(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (shown(event) && event.dataTransfer.files.length) {
      event.preventDefault();
      give(event.dataTransfer.files);
    }
  });
})();
