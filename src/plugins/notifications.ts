import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { dismissDied } from '../labDialogs';
import { Notifier } from '../notifier';
import { followSettings } from '../settings';
import { CommandIDs, IElasticActions, IElasticModel, PACKAGE } from '../tokens';

/**
 * Tells of slow starts, failures and kernels that ran out of memory. What Lab says of a kernel that
 * comes back, in a dialog over everything, is left out where this says more.
 */
export const notificationsPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:notifications`,
  description: 'Notifications of elastic kernels.',
  autoStart: true,
  requires: [IElasticModel, IElasticActions],
  optional: [ITranslator, ISettingRegistry, INotebookTracker],
  activate: (
    app: JupyterFrontEnd,
    model: IElasticModel,
    { actions }: IElasticActions,
    translator: ITranslator | null,
    registry: ISettingRegistry | null,
    notebooks: INotebookTracker | null
  ) => {
    const notifier = new Notifier({
      model,
      actions,
      trans: (translator ?? nullTranslator).load('jupyter_elastic'),
      isTold: id => actions.startView?.showsStart(id) ?? false,
      openPanel: section => {
        void app.commands.execute(CommandIDs.openPanel, { section });
      }
    });
    followSettings(registry, settings => {
      notifier.tellStarts = settings.notifyStarts;
      notifier.tellFailures = settings.notifyFailures;
    }).catch(reason => {
      console.warn(`${PACKAGE}: settings were not loaded.`, reason);
    });
    const watch = ({ sessionContext }: NotebookPanel): void => {
      // The notebook has seen it first, and its dialog is there, but not in view yet.
      sessionContext.statusChanged.connect((_, status) => {
        const { session } = sessionContext;
        if (status === 'autorestarting' && session?.kernel) {
          if (notifier.comeBack(session.kernel.id)) {
            dismissDied(session.path, translator);
          }
        }
      });
    };
    notebooks?.forEach(watch);
    notebooks?.widgetAdded.connect((_, panel) => watch(panel));
  }
};
