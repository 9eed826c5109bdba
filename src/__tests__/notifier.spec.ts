import { Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';
import { ElasticActions } from '../actions';
import { IHappening } from '../happenings';
import { ElasticModel } from '../model';
import { Notifier } from '../notifier';
import { makeKernel } from './fakes';

describe('Notifier', () => {
  const model = {} as {
    happened: Signal<object, IHappening>;
    changed: Signal<object, void>;
  };
  let error: jest.SpyInstance;
  let notifier: Notifier;
  let told: string[];

  beforeEach(() => {
    error = jest.spyOn(Notification, 'error').mockReturnValue('');
    model.happened = new Signal(model);
    model.changed = new Signal(model);
    told = [];
    notifier = new Notifier({
      model: model as unknown as ElasticModel,
      actions: { canRestart: () => true } as unknown as ElasticActions,
      trans: nullTranslator.load('jupyter_elastic'),
      openPanel: () => undefined,
      isTold: id => told.includes(id)
    });
  });

  afterEach(() => {
    notifier.dispose();
    error.mockRestore();
  });

  const labels = (): string[] =>
    error.mock.calls[0][1].actions.map((action: { label: string }) => action.label);

  it('offers more memory, and no restart, for a kernel that runs again', () => {
    const kernel = makeKernel({ reason: 'OutOfMemory', message: 'Limit 1 GiB.' });
    model.happened.emit({ kind: 'out-of-memory', kernel });
    expect(error.mock.calls[0][0]).toBe('demo.ipynb: Limit 1 GiB.');
    expect(labels()).toEqual(['Raise memory']);
  });

  it('is silent of a failed start that the form shows', () => {
    const kernel = makeKernel({ phase: 'Failed', message: 'Bad.' });
    told = ['k1'];
    model.happened.emit({ kind: 'start-failed', kernel });
    expect(error).not.toHaveBeenCalled();
    told = [];
    model.happened.emit({ kind: 'start-failed', kernel });
    expect(labels()).toEqual(['Start a new one']);
  });
});
