import { ElasticModel } from '../model';
import { comeBack } from '../plugins/reconnect';
import { ElasticProblem } from '../request';
import { FakeApi } from './fakes';

it('asks a server that is away until it answers', async () => {
  const api = new FakeApi();
  const model = new ElasticModel({ api, standby: 'never' });
  await model.open();
  const away = new ElasticProblem({ reason: 'ServerUnreachable', message: 'No.' });
  const before = api.count('kernels');
  api.failures.set('kernels', away);
  await comeBack(model, 1);
  expect(api.count('kernels')).toBe(before + 2);
  expect(model.problem).toBeNull();
  model.dispose();
});
