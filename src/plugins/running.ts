import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IRunningSessionManagers, IRunningSessions } from '@jupyterlab/running';
import {
  ITranslator,
  nullTranslator,
  TranslationBundle
} from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';
import { ElasticActions } from '../actions';
import { elasticIcon } from '../icons';
import { ElasticModel } from '../model';
import { IKernel } from '../request';
import { showResources } from '../resources';
import { IElasticActions, IElasticModel, PACKAGE } from '../tokens';
import { kernelTitle, notebookOf } from '../titles';

/** A section in Lab's list of what runs, also for kernels without a notebook. */
export const runningPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:running`,
  description: 'Lists elastic kernels among what runs.',
  autoStart: true,
  requires: [IElasticModel, IElasticActions],
  optional: [IRunningSessionManagers, ITranslator],
  activate: (
    _: JupyterFrontEnd,
    model: IElasticModel,
    { actions }: IElasticActions,
    managers: IRunningSessionManagers | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('jupyter_elastic');
    managers?.add(makeManager(model, actions, trans));
  }
};

/** What the list shows; it changes only when kernels do, not with their use. */
export function makeManager(
  model: ElasticModel,
  actions: ElasticActions,
  trans: TranslationBundle
): IRunningSessions.IManager {
  const runningChanged = new Signal<ElasticModel, void>(model);
  let shown = model.kernels;
  model.changed.connect(() => {
    if (shown !== model.kernels) {
      shown = model.kernels;
      runningChanged.emit();
    }
  });
  const run = (failure: string, work: Promise<unknown>): void => {
    work.catch(error => actions.showProblem(failure, error));
  };
  const makeItem = (kernel: IKernel): IRunningSessions.IRunningItem => ({
    icon: () => elasticIcon,
    label: () => kernelTitle(kernel),
    labelTitle: () =>
      [notebookOf(kernel), kernel.display_name, kernel.phase, kernel.message]
        .filter(Boolean)
        .join('\n'),
    detail: () => showResources(kernel.resources),
    open: () => run(trans.__('Cannot open'), actions.open(kernel)),
    shutdown: () =>
      run(trans.__('Cannot stop the kernel'), actions.stop(kernel.kernel_id))
  });
  return {
    name: trans.__('Elastic Kernels'),
    running: () => model.kernels.map(makeItem),
    refreshRunning: () => {
      // What went wrong is in `model.problem`.
      void model.refresh().catch(() => undefined);
    },
    runningChanged,
    shutdownLabel: trans.__('Stop'),
    shutdownAllLabel: trans.__('Stop All'),
    shutdownAllConfirmationText: trans.__(
      'Stop all of your elastic kernels? Their variables are lost.'
    ),
    // Lab has asked already.
    shutdownAll: () => {
      for (const kernel of model.kernels) {
        run(trans.__('Cannot stop the kernel'), actions.stop(kernel.kernel_id, false));
      }
    }
  };
}
