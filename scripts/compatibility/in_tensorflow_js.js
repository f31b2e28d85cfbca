// SPDX-License-Identifier: Apache-2.0
// Runs a converted graph:
//   node in_tensorflow_js.js NODE_MODULES FOLDER OUTPUT...
// FOLDER holds model.json with its weights, and feeds.json; answers.json is
// written there.
'use strict';
const fs = require('fs');
const path = require('path');

async function main(modules, folder, ...outputs) {
  const tf = require(path.join(modules, '@tensorflow', 'tfjs'));
  await tf.setBackend('cpu');
  const read = name => fs.readFileSync(path.join(folder, name));
  const stored = JSON.parse(read('model.json'));
  const groups = stored.weightsManifest;
  const weights = Buffer.concat(groups.flatMap(one => one.paths).map(read));
  const model = await tf.loadGraphModel({
    load: async () => ({
      ...stored,
      weightSpecs: groups.flatMap(one => one.weights),
      weightData: new Uint8Array(weights).buffer,
    }),
  });
  const feeds = {};
  const given = JSON.parse(read('feeds.json'));
  // The converter drops inputs that no output needs.
  for (const {name} of model.inputs) {
    const fed = given[name.split(':')[0]];
    const dtype = fed.dtype.replace('64', '32');
    feeds[name] = tf.tensor(fed.values, fed.shape, dtype);
  }
  const answers = [await model.executeAsync(feeds, outputs)].flat();
  const plain = answers.map(one => (
      {dtype: one.dtype, shape: one.shape, values: [...one.dataSync()]}));
  fs.writeFileSync(path.join(folder, 'answers.json'), JSON.stringify(plain));
}

main(...process.argv.slice(2)).catch(error => {
  console.error(String(error));
  process.exit(1);
});
