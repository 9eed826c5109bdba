import { JupyterFrontEnd } from '@jupyterlab/application';
import { CommandRegistry } from '@lumino/commands';
import { Signal } from '@lumino/signaling';
import { ElasticActions } from '../actions';
import { commandsPlugin } from '../plugins/commands';
import { ElasticProblem } from '../request';
import { CommandIDs } from '../tokens';
import { makeKernel } from './fakes';

describe('elastic:resize-kernel', () => {
  const actions = {
    resize: jest.fn(),
    replace: jest.fn(),
    showProblem: jest.fn(),
    resizeOrMove: ElasticActions.prototype.resizeOrMove
  };
  const commands = new CommandRegistry();
  const args = { kernelId: 'k1', resources: { memory: '4Gi' } };
  const refusal = (reason: string): ElasticProblem =>
    new ElasticProblem({ reason, message: 'No.' });

  beforeAll(() => {
    const current = { kernelId: null, changed: new Signal({}) };
    const model = { kernel: () => makeKernel() };
    void commandsPlugin.activate(
      { commands } as unknown as JupyterFrontEnd,
      model,
      { actions, current },
      null,
      null
    );
  });

  beforeEach(() => jest.resetAllMocks());

  const run = (): Promise<void> => commands.execute(CommandIDs.resizeKernel, args);

  it('resizes', async () => {
    await run();
    expect(actions.resize).toHaveBeenCalledWith('k1', args.resources);
    expect(actions.replace).not.toHaveBeenCalled();
    expect(actions.showProblem).not.toHaveBeenCalled();
  });

  it.each(['NoNodeFits', 'ResizeUnsupported'])(
    'asks whether to move the kernel after %s',
    async reason => {
      actions.resize.mockRejectedValue(refusal(reason));
      await run();
      expect(actions.replace).toHaveBeenCalledWith('k1', args.resources, 'No.');
      expect(actions.showProblem).not.toHaveBeenCalled();
    }
  );

  it('shows any other refusal, and one of the move', async () => {
    const full = refusal('QuotaFull');
    actions.resize.mockRejectedValue(full);
    await run();
    expect(actions.replace).not.toHaveBeenCalled();
    expect(actions.showProblem).toHaveBeenLastCalledWith(expect.any(String), full);

    const stuck = refusal('Unschedulable');
    actions.resize.mockRejectedValue(refusal('NoNodeFits'));
    actions.replace.mockRejectedValue(stuck);
    await run();
    expect(actions.showProblem).toHaveBeenLastCalledWith(expect.any(String), stuck);
  });
});
