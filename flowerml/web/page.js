// Hand a picture that is pasted anywhere, or dropped on the one that is shown, to the visible file input.
(() => {
  const choose = (list) => {
    const input = [...document.querySelectorAll(".picture input[type=file]")].find((field) => field.closest(".picture").offsetParent);
    const picture = [...(list || [])].find((file) => file.type.startsWith("image/"));
    if (!input || !picture) return false;
    const transfer = new DataTransfer();
    transfer.items.add(picture);
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
    return true;
  };
  document.addEventListener("paste", (event) => choose(event.clipboardData?.files) && event.preventDefault());
  const onPicture = (event) => event.target.closest?.(".picture .image-frame");
  document.addEventListener("dragover", (event) => onPicture(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (onPicture(event) && event.dataTransfer.files.length) {
      event.preventDefault();
      choose(event.dataTransfer.files);
    }
  });
})();
