// Says why a page does not open, or does not go on. It runs before the viewer, which may be what is missing, and keeps to
// what old browsers know.
(function () {
  var root = document.documentElement;

  window.fail = function (words) {
    var place = document.createElement('p');
    if (root.dataset.state === 'failed') return;
    root.dataset.state = 'failed';
    place.id = 'failure';
    place.setAttribute('role', 'alert');
    place.textContent = words;
    (document.body || root).appendChild(place);
  };

  function failed(event) {
    var ready = root.dataset.state === 'ready', what = '(' + (event.message || event.reason) + ')';
    fail(ready ? 'This page went wrong ' + what + '. Load it again.'
      : 'This page could not be opened ' + what + '. Its file may be damaged: get it again, or open it in a current browser.');
  }

  addEventListener('error', failed);
  addEventListener('unhandledrejection', failed);
  // By then the viewer has begun, if it is there and this browser can read it.
  addEventListener('DOMContentLoaded', function () {
    if (!root.dataset.state) fail('This page is not whole, or this browser is too old for it. Get the file again, or open it '
      + 'in a current browser.');
  });
})();
