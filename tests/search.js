// What the search of the site answers, without a browser: node search.js SITE QUERY ...
// prints, for each query, the first five hits as [page#anchor, title, score].
const fs = require('fs');
const vm = require('vm');

const [site, ...queries] = process.argv.slice(2);
const document = {
  addEventListener: () => {},
  querySelector: () => null,
  getElementById: () => ({ lastChild: null }),
  documentElement: { dataset: { content_root: './' } },
};
const page = vm.createContext({ document, console, URLSearchParams });
page.window = page;
const scripts = ['_static/language_data.js', '_static/searchtools.js', 'searchindex.js'];
const text = scripts.map(name => fs.readFileSync(`${site}/${name}`, 'utf8')).join('\n');
const options = '{ FILE_SUFFIX: ".html", LINK_SUFFIX: ".html" }';
const rest = 'SPHINX_HIGHLIGHT_ENABLED = false, _ready = () => {}';
vm.runInContext(`var DOCUMENTATION_OPTIONS = ${options}, ${rest};`, page);
vm.runInContext(`${text}\nthis.Search = Search;`, page);

const hits = query => page.Search._performSearch(...page.Search._parseQuery(query));
const shown = ([doc, title, anchor, , score]) => [`${doc}.html${anchor}`, title, score];
// the last result of the list is the first on the page
const answers = queries.map(query => [query, hits(query).reverse().slice(0, 5).map(shown)]);
console.log(JSON.stringify(Object.fromEntries(answers)));
