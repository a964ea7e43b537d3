// Says why a page does not open. It runs before the viewer, which may be what is missing, and keeps to what old browsers
// know.
(function () {
  var root = document.documentElement;

  window.fail = function (words) {
    var place = document.createElement('p');
    if (root.dataset.state === 'ready' || root.dataset.state === 'failed') return;
    root.dataset.state = 'failed';
    place.id = 'failure';
    place.setAttribute('role', 'alert');
    place.textContent = words;
    (document.body || root).appendChild(place);
  };

  function failed(event) {
    fail('This page could not be opened (' + (event.message || event.reason) + '). Its file may be damaged: get it again, or open '
      + 'it in a current browser.');
  }

  addEventListener('error', failed);
  addEventListener('unhandledrejection', failed);
  // By then the viewer has begun, if it is there and this browser can read it.
  addEventListener('DOMContentLoaded', function () {
    if (!root.dataset.state) fail('This page is not whole, or this browser is too old for it. Get the file again, or open it '
      + 'in a current browser.');
  });
})();
