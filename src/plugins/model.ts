import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IStateDB } from '@jupyterlab/statedb';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ElasticModel } from '../model';
import { Remembered } from '../remembered';
import { ElasticApi } from '../request';
import { followSettings } from '../settings';
import { IElasticModel, PACKAGE } from '../tokens';

/** The one model, reading from the moment the application is there. */
export const modelPlugin: JupyterFrontEndPlugin<IElasticModel> = {
  id: `${PACKAGE}:model`,
  description: 'Keeps what the server knows of elastic kernels.',
  autoStart: true,
  provides: IElasticModel,
  optional: [ISettingRegistry, IStateDB],
  activate: (
    app: JupyterFrontEnd,
    registry: ISettingRegistry | null,
    state: IStateDB | null
  ) => {
    const { serverSettings, events } = app.serviceManager;
    const remembered = new Remembered(state);
    const api = new ElasticApi(serverSettings);
    const model = new ElasticModel({ api, events, remembered });
    remembered.load().catch(reason => {
      console.warn(`${PACKAGE}: the last choices could not be read.`, reason);
    });
    followSettings(registry, settings =>
      model.setIntervals(settings.pollInterval * 1000, settings.usageInterval * 1000)
    ).catch(reason => {
      // The defaults hold; say in the browser's log why the settings do not.
      console.warn(`${PACKAGE}: settings were not loaded.`, reason);
    });
    // A failure is in `model.problem`, and the poll goes on.
    void model.open().catch(() => undefined);
    return model;
  }
};
