// What Gradio's components leave out: pictures that are pasted or dropped anywhere, files that are too large to send,
// and an answer for those who do not see it: on a phone it is below the fold, and a screen reader reads what it is told.
window.flowerml = (() => {
  const MAX_BYTES = 0; // set by the server
  let asked = false;

  const ofPictures = () => [...document.querySelectorAll(".picture input[type=file]")]
    .find((field) => field.closest(".picture").offsetParent);

  const refuse = (field) => {
    const relay = field.closest(".card").querySelector(".samples-of");
    relay.dispatchEvent(new Event("too-large", {bubbles: true}));
  };

  // Hand a file to the visible input.
  const choose = (file) => {
    const field = ofPictures();
    if (!field || !file) return false;
    const transfer = new DataTransfer();
    transfer.items.add(file);
    field.files = transfer.files;
    field.dispatchEvent(new Event("change", {bubbles: true}));
    return true;
  };

  document.addEventListener("paste", (event) => {
    const picture = [...(event.clipboardData?.files || [])].find((file) => file.type.startsWith("image/"));
    if (choose(picture)) event.preventDefault();
  });
  const onPicture = (event) => event.target.closest?.(".picture") && ofPictures();
  document.addEventListener("dragover", (event) => onPicture(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!onPicture(event) || !event.dataTransfer.files.length) return;
    event.preventDefault();
    event.stopPropagation(); // Gradio would refuse what is no picture, in a message that is gone after seconds
    choose(event.dataTransfer.files[0]);
  }, {capture: true});

  document.addEventListener("change", (event) => {
    if (!event.target.matches?.(".picture input[type=file]") || !event.target.files.length) return;
    asked = true;
    const file = event.target.files[0];
    if (file.size <= MAX_BYTES && file.type.startsWith("image/")) return;
    event.stopPropagation();
    event.target.value = "";
    if (file.size > MAX_BYTES) return refuse(event.target);
    choose(new File([file], "file.jpg", {type: "image/jpeg"})); // Gradio would ignore it; the server says what is wrong
  }, {capture: true});
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".samples button, .ask, .picture button")) asked = true;
  }, {capture: true});
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && event.target.matches?.(".text textarea")) asked = true;
  }, {capture: true});

  const announce = (text) => {
    let status = document.getElementById("announcement");
    if (!status) {
      status = document.createElement("p");
      status.id = "announcement";
      status.setAttribute("role", "status");
      document.body.append(status);
    }
    status.textContent = text;
  };

  // Tell the answer to a question once, and bring it into view where it is not.
  const show = (element) => {
    const told = element.querySelector(".verdict, .problem");
    if (!told || !asked) return;
    asked = false;
    announce([told, element.querySelector(".guess")].map((part) => part?.innerText || "").join(" "));
    const place = told.getBoundingClientRect();
    if (place.top >= 0 && place.bottom <= 0.6 * window.innerHeight) return;
    const card = element.closest(".card");
    card.classList.add("told"); // as high as a phone, so that it can be at the top before its explanation is there
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    card.scrollIntoView({block: "start", behavior: calm ? "auto" : "smooth"});
    card.tabIndex = -1; // and not the answer itself, which is replaced when its explanation is there
    card.setAttribute("role", "region");
    card.setAttribute("aria-label", "Answer");
    card.focus({preventScroll: true});
  };

  return {show};
})();
