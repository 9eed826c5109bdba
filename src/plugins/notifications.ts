import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Notifier } from '../notifier';
import { followSettings } from '../settings';
import { CommandIDs, IElasticActions, IElasticModel, PACKAGE } from '../tokens';

/** Tells of slow starts, failures and kernels that ran out of memory. */
export const notificationsPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:notifications`,
  description: 'Notifications of elastic kernels.',
  autoStart: true,
  requires: [IElasticModel, IElasticActions],
  optional: [ITranslator, ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    model: IElasticModel,
    { actions }: IElasticActions,
    translator: ITranslator | null,
    registry: ISettingRegistry | null
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
  }
};
