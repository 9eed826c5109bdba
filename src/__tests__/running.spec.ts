import { nullTranslator } from '@jupyterlab/translation';
import { ElasticActions } from '../actions';
import { ElasticModel } from '../model';
import { makeManager } from '../plugins/running';
import { FakeApi, makeKernel } from './fakes';

it('lists all of my kernels among what runs, and is told only of their changes', async () => {
  const api = new FakeApi();
  api.put(makeKernel({ name: 'train' }));
  const model = new ElasticModel({ api, standby: 'never' });
  await model.open();
  const actions = { stop: jest.fn().mockResolvedValue(true), open: jest.fn() };
  const manager = makeManager(
    model,
    actions as unknown as ElasticActions,
    nullTranslator.load('jupyter_elastic')
  );
  let changes = 0;
  manager.runningChanged.connect(() => changes++);
  const [item] = manager.running({ mode: 'list' });
  expect([item.label(), item.detail?.()]).toEqual(['train', '1 CPU · 1 GiB']);
  item.shutdown?.();
  expect(actions.stop).toHaveBeenCalledWith('k1');
  await model.refresh();
  expect(changes).toBe(0);
  api.put(makeKernel({ kernel_id: 'k2' }));
  await model.refresh();
  expect(changes).toBe(1);
  manager.shutdownAll();
  expect(actions.stop).toHaveBeenLastCalledWith('k2', false);
  model.dispose();
});
