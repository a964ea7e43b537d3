// The words of the page: title, facts, classes, switches.
import { drive, frames } from 'drive';

export const element = id => document.getElementById(id);

function made(tag, properties, ...children) {
  const it = Object.assign(document.createElement(tag), properties);
  it.append(...children);
  return it;
}

// Writes them. A tick calls choose(class, whether) or set(switch, whether). Switches: [name, key, words], and which are on
// at first; classes: which are visible. Returns, of each class in the drive, its number and the place of its share.
export function furnish(switches, on, visible, choose, set) {
  document.title = element('title').textContent = drive.title;
  for (const into of ['facts', 'more-facts']) for (const [term, fact] of drive.facts)
    element(into).append(made('dt', { textContent: term }), made('dd', { textContent: fact }));
  element('attribution').textContent = drive.attribution;
  for (const [name, key, words] of switches) {
    const box = made('input', { type: 'checkbox', id: name, checked: on[name] });
    box.addEventListener('change', () => set(name, box.checked));
    element('switches').append(made('label', {}, box, words, made('kbd', { textContent: key.toUpperCase() })));
    element('keys').append(made('dt', {}, made('kbd', { textContent: key.toUpperCase() })), made('dd', { textContent: words }));
  }
  element('scrub').max = frames - 1;
  for (let frame = drive.frames_per_chunk; frame < frames; frame += drive.frames_per_chunk) {
    const mark = made('span', {});
    // A range's thumb is about 16 px wide, so its track is shorter than its box.
    mark.style.left = `calc(8px + (100% - 16px) * ${frame / (frames - 1)})`;
    element('borders').append(mark);
  }
  return drive.labels_present.filter(k => k > 0).map(k => {
    const { name, colour } = drive.classes[k], box = made('input', { type: 'checkbox', checked: !!visible[k] });
    const swatch = made('i', {}), share = made('span', {});
    box.addEventListener('change', () => choose(k, box.checked));
    swatch.style.background = `rgb(${colour})`;
    element('classes').append(made('li', {}, made('label', {}, box, swatch, name.replaceAll('_', ' '), share)));
    return [k, share];
  });
}
